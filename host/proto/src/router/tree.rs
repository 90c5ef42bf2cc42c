//! The paths of one host as a tree of segments. Knows route numbers and byte ranges, no hosts and no values.
//!
//! A search tries each node of the tree at most once, so a path that fits many patterns half costs no more than the
//! tree is large; it descends at most as deep as the longest pattern.

use core::ops::Range;

use super::pattern::Segment;

#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment.
    literals: Vec<(Box<str>, usize)>,
    param: Option<usize>,
    /// The route that ends here.
    exact: Option<usize>,
    /// The route whose `*` begins here.
    rest: Option<usize>,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) route: usize,
    pub(super) mount_len: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    /// The first is the root.
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Tree {
    /// Puts a route at the end of its segments. The error is the number of the route that is there already; the tree
    /// then finds what it found before.
    pub(super) fn insert(&mut self, segments: &[Segment], route: usize) -> Result<(), usize> {
        let mut at = 0;
        for segment in segments {
            at = match segment {
                Segment::Literal(text) => self.literal(at, text),
                Segment::Param => self.param(at),
                Segment::Rest => return take(self.nodes.get_mut(at).map(|node| &mut node.rest), route),
            };
        }
        take(self.nodes.get_mut(at).map(|node| &mut node.exact), route)
    }

    /// The most specific route for a path, and where its parameters stand. Without one `values` is left as it came.
    pub(super) fn find(&self, path: &str, values: &mut Vec<Range<u32>>) -> Option<Slot> {
        // Ranges are of four bytes a side; a head is far shorter than that.
        if !path.starts_with('/') || u32::try_from(path.len()).is_err() {
            return None;
        }
        self.descend(0, path, Some(1), values)
    }

    /// `from` is where the next segment begins in `path`; None when the path has ended.
    fn descend(
        &self,
        at: usize,
        path: &str,
        from: Option<usize>,
        values: &mut Vec<Range<u32>>,
    ) -> Option<Slot> {
        let node = self.nodes.get(at)?;
        let Some(from) = from else {
            let exact = node.exact.map(|route| Slot { route, mount_len: 0 });
            return exact.or_else(|| node.rest.map(|route| Slot { route, mount_len: path.len() }));
        };
        let tail = path.get(from..).unwrap_or_default();
        let len = tail.find('/').unwrap_or(tail.len());
        let end = from.saturating_add(len);
        let next = if len == tail.len() { None } else { Some(end.saturating_add(1)) };
        let segment = tail.get(..len).unwrap_or_default();

        if let Some(child) = node.child(segment)
            && let Some(found) = self.descend(child, path, next, values)
        {
            return Some(found);
        }
        if let Some(child) = node.param
            && !segment.is_empty()
        {
            values.push(u32::try_from(from).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX));
            if let Some(found) = self.descend(child, path, next, values) {
                return Some(found);
            }
            values.pop();
        }
        node.rest.map(|route| Slot { route, mount_len: from.saturating_sub(1) })
    }

    fn literal(&mut self, at: usize, text: &str) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        match node.literals.binary_search_by(|(known, _)| (**known).cmp(text)) {
            Ok(found) => node.literals.get(found).map_or(at, |(_, child)| *child),
            Err(place) => {
                node.literals.insert(place, (text.into(), fresh));
                self.nodes.push(Node::default());
                fresh
            }
        }
    }

    fn param(&mut self, at: usize) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = *node.param.get_or_insert(fresh);
        if child == fresh {
            self.nodes.push(Node::default());
        }
        child
    }
}

impl Node {
    fn child(&self, segment: &str) -> Option<usize> {
        let place = self.literals.binary_search_by(|(known, _)| (**known).cmp(segment)).ok()?;
        self.literals.get(place).map(|(_, child)| *child)
    }
}

/// Fills an empty place, or says which route holds it.
fn take(place: Option<&mut Option<usize>>, route: usize) -> Result<(), usize> {
    match place {
        Some(Some(taken)) => Err(*taken),
        Some(empty) => {
            *empty = Some(route);
            Ok(())
        }
        None => Err(route),
    }
}
