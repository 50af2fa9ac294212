//! What a command prints.

use serde_json::Value;

use super::failure::Failure;

/// Both forms of an answer, and the refusal of a part of it.
#[derive(Debug)]
pub struct Answer {
    /// One line.
    pub json: Value,
    /// For people.
    pub pretty: String,
    /// Printed, and yet exit code 1.
    pub refused: Option<Failure>,
}

impl Answer {
    /// An answer in both forms.
    pub fn new(json: Value, pretty: impl Into<String>) -> Self {
        Self { json, pretty: pretty.into(), refused: None }
    }

    /// An answer part of which was refused.
    pub fn refused(json: Value, pretty: impl Into<String>, why: Failure) -> Self {
        Self { json, pretty: pretty.into(), refused: Some(why) }
    }
}
