//! The inspection of files, as the clinic has it: on the labelled corpus, and in its sandbox.
#[cfg(test)]
mod corpus;
