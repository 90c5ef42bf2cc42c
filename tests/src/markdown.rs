//! Just enough Markdown for tests that hold the docs to the code: links, anchors, code blocks and tables of the pages in
//! this repository, which are written plainly.

/// The parts of a page.
#[derive(Debug, Default)]
pub struct Page {
    /// Fenced blocks: the word behind the fence, and the text.
    pub blocks: Vec<(String, String)>,
    /// Targets of links, outside of code.
    pub links: Vec<String>,
    /// What `#fragment`s may name.
    pub anchors: Vec<String>,
    /// Rows of all tables without those of dashes: the heading the table stands under, and the cells.
    pub rows: Vec<(String, Vec<String>)>,
}

impl Page {
    /// Takes a page apart.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut block: Option<(String, String)> = None;
        let mut heading = String::new();
        for line in text.lines() {
            if let Some(word) = line.trim_start().strip_prefix("```") {
                match block.take() {
                    Some(done) => page.blocks.push(done),
                    None => block = Some((word.trim().to_owned(), String::new())),
                }
            } else if let Some((_, text)) = &mut block {
                text.push_str(line);
                text.push('\n');
            } else {
                page.read_line(line, &mut heading);
            }
        }
        page
    }

    fn read_line(&mut self, line: &str, heading: &mut String) {
        if let Some(title) = line.strip_prefix('#') {
            *heading = title.trim_start_matches('#').trim().to_owned();
            let slug = slug(heading);
            // A heading that is there again gets a number.
            let count = self.anchors.iter().filter(|anchor| **anchor == slug).count();
            self.anchors.push(if count == 0 { slug } else { format!("{slug}-{count}") });
        }
        if line.starts_with('|') && !line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ')) {
            self.rows.push((heading.clone(), cells(line)));
        }
        let prose = without_code(line);
        let mut rest = prose.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            self.links.push(target.to_owned());
            rest = after;
        }
    }

    /// The texts of the blocks of this kind.
    pub fn blocks_of(&self, kind: &str) -> Vec<&str> {
        self.blocks.iter().filter(|(word, _)| word == kind).map(|(_, text)| text.as_str()).collect()
    }

    /// The cells of the rows below this heading, each table's own head included.
    pub fn rows_below(&self, heading: &str) -> Vec<&[String]> {
        self.rows.iter().filter(|(above, _)| above == heading).map(|(_, cells)| cells.as_slice()).collect()
    }
}

/// The cells of a table's row; `\|` is a bar within a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line).replace("\\|", "\u{0}");
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The texts in backticks of a cell.
pub fn code_spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The line with its code spans emptied.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchor that is made of a heading: lower case, no punctuation, hyphens for spaces.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = Page::parse(
            "# A `b(c, d) -> e`\n[x](y.md#z) `not[a](link)` [`f`](g)\n```sh\n# no heading [n](o)\n```\n\
             | a | `b \\| c` |\n|---|---|\n| [d](e) | f |\n# Again\n# Again\n",
        );
        assert_eq!(page.anchors, ["a-bc-d---e", "again", "again-1"]);
        assert_eq!(page.links, ["y.md#z", "g", "e"]);
        assert_eq!(page.blocks_of("sh"), ["# no heading [n](o)\n"]);
        let rows = page.rows_below("A `b(c, d) -> e`");
        assert_eq!(rows, [["a", "`b | c`"], ["[d](e)", "f"]]);
        assert_eq!(code_spans(&rows[0][1]), ["b | c"]);
    }
}
