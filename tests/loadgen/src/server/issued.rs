//! What a batch of SVIDs came to.

use chancery_proto::spire::api::{server::svid::v1::BatchNewX509svidResponse, types::X509svid};
use tonic::Code;

use crate::stats::Outcome;

/// A call counts where every SVID came.
pub fn issued(answer: &BatchNewX509svidResponse, asked: usize) -> Outcome {
    if answer.results.len() != asked {
        return Err("WrongCount".into());
    }
    let is_there = |svid: &X509svid| !svid.cert_chain.is_empty();
    match answer.results.iter().find(|result| !result.svid.as_ref().is_some_and(is_there)) {
        None => Ok(asked as u64),
        Some(refused) => {
            let code = refused.status.as_ref().map_or(Code::Unknown, |status| Code::from(status.code));
            Err(format!("Item{code:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_proto::spire::api::{server::svid::v1::batch_new_x509svid_response::Result as Item, types::Status};

    use super::*;

    fn item(code: Code) -> Item {
        let svid = X509svid { cert_chain: vec![vec![1]], ..X509svid::default() };
        Item {
            status: Some(Status { code: code as i32, message: String::new() }),
            svid: (code == Code::Ok).then_some(svid),
        }
    }

    #[test]
    fn a_batch_with_one_refusal_does_not_count() {
        let all = BatchNewX509svidResponse { results: vec![item(Code::Ok), item(Code::Ok)] };
        assert_eq!(issued(&all, 2), Ok(2));
        assert_eq!(issued(&all, 3), Err("WrongCount".into()));
        let one = BatchNewX509svidResponse { results: vec![item(Code::Ok), item(Code::NotFound)] };
        assert_eq!(issued(&one, 2), Err("ItemNotFound".into()));
    }
}
