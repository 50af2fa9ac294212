use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use tss_esapi::tcti_ldr::TctiNameConf;

use super::TpmError;

/// Where the TPM is. Parsed here because the library's own parser takes anything: `swtpm:path=/x` becomes
/// `localhost:2321` there, whoever listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tcti {
    /// `device:/dev/tpmrm0`.
    Device(PathBuf),
    /// `swtpm:host=127.0.0.1,port=2321`; the control channel is at port + 1.
    Swtpm {
        /// Address, never a name.
        host: IpAddr,
        /// Port of the data channel.
        port: u16,
    },
}

impl FromStr for Tcti {
    type Err = TpmError;

    fn from_str(text: &str) -> Result<Self, TpmError> {
        let wrong = || {
            TpmError::Config(format!(
                "tpm.tcti '{text}' is not of the form \"device:/dev/tpmrm0\" or \"swtpm:host=127.0.0.1,port=2321\""
            ))
        };
        match text.split_once(':').ok_or_else(wrong)? {
            ("device", path) if path.starts_with('/') => Ok(Self::Device(path.into())),
            ("swtpm", rest) => {
                let (host, port) = rest.split_once(',').ok_or_else(wrong)?;
                let host = host.strip_prefix("host=").and_then(|h| h.parse().ok()).ok_or_else(wrong)?;
                let port = port.strip_prefix("port=").and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
                Ok(Self::Swtpm { host, port })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

impl Tcti {
    /// What the library wants.
    pub(super) fn library(&self) -> Result<TctiNameConf, TpmError> {
        Ok(TctiNameConf::from_str(&self.to_string())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_are_read_and_printed_alike() {
        for text in ["device:/dev/tpmrm0", "swtpm:host=127.0.0.1,port=4242"] {
            assert_eq!(text.parse::<Tcti>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn forms_that_the_library_would_misread_are_refused() {
        for text in [
            "swtpm:path=/x",
            "swtpm",
            "device:",
            "device",
            "mssim:host=127.0.0.1,port=1",
            "swtpm:host=localhost,port=1",
            "",
            "swtpm:host=127.0.0.1,port=70000",
            "swtpm:host=127.0.0.1,port=1,path=/x",
        ] {
            assert!(text.parse::<Tcti>().is_err(), "{text}");
        }
    }
}
