//! Loading of TOML configuration files: one clear line for whatever is wrong.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

pub use crate::span::Span;

/// Largest configuration or policy file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a configuration file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value parses and cannot be.
    #[error("{path}: {problem}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// Not TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("{path}: {problem}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// One line with the place.
        problem: String,
    },
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads and parses `path`. `T` should deny unknown fields; the error then names the key.
///
/// # Errors
/// [`ConfigError`], printed as one line.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read { path: path.into(), source };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > MAX_BYTES {
        let problem = format!("{size} bytes exceed {MAX_BYTES} bytes");
        return Err(ConfigError::Parse { path: path.into(), problem });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text).map_err(|problem| ConfigError::Parse { path: path.into(), problem })
}

/// Parses TOML text.
///
/// # Errors
/// One line: the place, and what is wrong there.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|e| {
        let place = e.span().map(|s| format!("line {}: ", 1 + text[..s.start.min(text.len())].matches('\n').count()));
        format!("{}{}", place.unwrap_or_default(), e.message().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the parser looks at it")]
    struct Sample {
        ttl: Span,
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let problem = parse::<Sample>("ttl = \"1h\"\ntll = 1\n").unwrap_err();
        assert!(problem.starts_with("line 2: unknown field `tll`"), "{problem}");
    }

    #[test]
    fn a_missing_file_is_one_line_with_its_path() {
        let problem = load::<Sample>(Path::new("/nonexistent/x.toml")).unwrap_err().to_string();
        assert!(problem.starts_with("/nonexistent/x.toml: ") && !problem.contains('\n'), "{problem}");
    }
}
