//! The pipe against a naive model: a queue of bytes and a flag.

use std::collections::VecDeque;

use proptest::prelude::*;
use tidegate_proto::pipe::{Pipe, Watermarks};

/// What a pipe does, said as simply as possible.
#[derive(Clone, Debug)]
struct Model {
    bytes: VecDeque<u8>,
    marks: Watermarks,
    blocked: bool,
    ended: bool,
    total_in: u64,
}

impl Model {
    fn new(marks: Watermarks) -> Self {
        Self { bytes: VecDeque::new(), marks, blocked: false, ended: false, total_in: 0 }
    }

    fn permit(&self) -> usize {
        if self.blocked || self.ended { 0 } else { self.marks.high - self.bytes.len() }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.permit());
        self.bytes.extend(&bytes[..count]);
        self.total_in += count as u64;
        if self.bytes.len() == self.marks.high {
            self.blocked = true;
        }
        count
    }

    fn consume(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        let taken = self.bytes.drain(..count).collect();
        if self.bytes.len() <= self.marks.low {
            self.blocked = false;
        }
        taken
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Receive { max: usize, filled: usize },
    Consume(usize),
    Read(usize),
    Forward(usize),
    DrainOther(usize),
    Release,
    End,
    Reset(usize, usize),
}

fn a_step(large: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..large).prop_map(Step::Write),
        6 => (0..large, 0..large).prop_map(|(max, filled)| Step::Receive { max, filled }),
        4 => (0..large).prop_map(Step::Consume),
        4 => (0..large).prop_map(Step::Read),
        3 => (0..large).prop_map(Step::Forward),
        3 => (0..large).prop_map(Step::DrainOther),
        1 => Just(Step::Release),
        1 => prop::bool::weighted(0.1).prop_map(|end| if end { Step::End } else { Step::Release }),
        1 => (1..large, 0..large).prop_map(|(high, low)| Step::Reset(high, low % high)),
    ]
}

/// Bytes that tell where they stand, so that a mixed-up order shows.
struct Source(u8);

impl Source {
    fn fill(&mut self, space: &mut [u8]) {
        for byte in space {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1) % 251;
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }
}

fn same(pipe: &Pipe, model: &Model) -> Result<(), TestCaseError> {
    let [first, second] = pipe.peek();
    prop_assert_eq!([first, second].concat(), model.bytes.iter().copied().collect::<Vec<_>>());
    prop_assert!(second.is_empty() || !first.is_empty());
    prop_assert_eq!(pipe.len(), model.bytes.len());
    prop_assert_eq!(pipe.is_empty(), model.bytes.is_empty());
    prop_assert_eq!(pipe.permit(), model.permit());
    prop_assert_eq!(pipe.total_in(), model.total_in);
    prop_assert_eq!(pipe.is_ended(), model.ended);
    prop_assert_eq!(pipe.drained(), model.ended && model.bytes.is_empty());
    prop_assert_eq!(pipe.is_readable(), model.ended || !model.bytes.is_empty());
    prop_assert!(pipe.len() <= pipe.capacity() && pipe.len() <= model.marks.high);
    Ok(())
}

fn run(marks: Watermarks, other_marks: Watermarks, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut pipe, mut model) = (Pipe::new(marks), Model::new(marks));
    let (mut other, mut other_model) = (Pipe::new(other_marks), Model::new(other_marks));
    let mut source = Source(0);
    for step in steps {
        match step {
            Step::Write(count) => {
                let bytes = source.take(count);
                prop_assert_eq!(pipe.write(&bytes), model.write(&bytes));
            }
            Step::Receive { max, filled } => {
                let permit = model.permit();
                let room = pipe.spare(max);
                prop_assert!(room.len() <= max.min(permit));
                prop_assert_eq!(room.is_empty(), max.min(permit) == 0);
                let filled = filled.min(room.len());
                source.fill(&mut room[..filled]);
                let bytes = room[..filled].to_vec();
                pipe.commit(filled);
                prop_assert_eq!(model.write(&bytes), filled);
            }
            Step::Consume(count) => {
                pipe.consume(count);
                model.consume(count);
            }
            Step::Read(count) => {
                let mut out = vec![0; count];
                let read = pipe.read(&mut out);
                out.truncate(read);
                prop_assert_eq!(out, model.consume(count));
            }
            Step::Forward(count) => {
                let count_expected = count.min(model.bytes.len());
                let bytes: Vec<u8> = model.bytes.iter().copied().take(count_expected).collect();
                let moved = other_model.write(&bytes);
                model.consume(moved);
                prop_assert_eq!(pipe.forward(&mut other, count), moved);
            }
            Step::DrainOther(count) => {
                other.consume(count);
                other_model.consume(count);
            }
            Step::Release => {
                pipe.release_if_empty();
                prop_assert!(!pipe.is_empty() || pipe.capacity() == 0);
            }
            Step::End => {
                pipe.end();
                model.ended = true;
            }
            Step::Reset(high, low) => {
                let marks = Watermarks::new(high, low).unwrap();
                pipe.reset(marks);
                model = Model::new(marks);
                prop_assert!(pipe.capacity() <= 16 * 1024);
            }
        }
        same(&pipe, &model)?;
        same(&other, &other_model)?;
    }
    Ok(())
}

fn marks(large: usize) -> impl Strategy<Value = Watermarks> {
    (1..large, 0..large).prop_map(|(high, low)| Watermarks::new(high, low % high).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Small marks, so that filling, wrapping and the hysteresis come up all the time.
    #[test]
    fn small_pipes(
        marks in marks(40),
        other in marks(40),
        steps in prop::collection::vec(a_step(24), 1..120),
    ) {
        run(marks, other, steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Large ones, so that the storage grows, also while the bytes wrap around.
    #[test]
    fn large_pipes(
        marks in marks(80_000),
        other in marks(80_000),
        steps in prop::collection::vec(a_step(30_000), 1..40),
    ) {
        run(marks, other, steps)?;
    }
}
