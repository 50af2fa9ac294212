use tonic::{Request, Status};

/// The metadata that shows a caller was not tricked into calling, for example through a proxy for browsers.
const HEADER: &str = "workload.spiffe.io";

/// Refuses a request without exactly one `workload.spiffe.io: true`, before anything is known of the caller.
///
/// # Errors
/// `InvalidArgument`. Source: WE-07 to WE-10.
pub(super) fn require(request: Request<()>) -> Result<Request<()>, Status> {
    let mut values = request.metadata().get_all(HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value == "true" => Ok(request),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&'static str]) -> Request<()> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append(HEADER, tonic::metadata::MetadataValue::from_static(value));
        }
        request
    }

    #[test]
    fn only_one_true_passes() {
        assert!(require(with(&["true"])).is_ok());
        for bad in [&[][..], &["false"], &["True"], &["1"], &[""], &["true", "true"], &["true", "false"]] {
            assert_eq!(require(with(bad)).unwrap_err().code(), tonic::Code::InvalidArgument, "{bad:?}");
        }
    }
}
