use chancery_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, batch_new_x509svid_response::Result as Item,
    svid_client::SvidClient,
};
use chancery_sdk::{id::SpiffeId, origin::Origin, time::UnixTime};
use rustls_pki_types::CertificateDer;
use tonic::Code;
use zeroize::Zeroizing;

use super::{Ca, CaError, sync::MAX_ANSWER_BYTES, wire};

/// An X509-SVID without its key, which never left this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuedX509 {
    /// Whose it is.
    pub id: SpiffeId,
    /// DER, leaf first, no root; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// End of the leaf.
    pub expires_at: UnixTime,
}

/// A JWT-SVID.
#[derive(Clone)]
pub struct IssuedJwt {
    /// Whose it is.
    pub id: SpiffeId,
    /// Compact JWS.
    pub token: Zeroizing<String>,
    /// `iat`.
    pub issued_at: UnixTime,
    /// `exp`.
    pub expires_at: UnixTime,
}

impl Ca {
    /// An X509-SVID of one entry. `csr` is DER PKCS#10, signed by the key it names.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn new_x509(&self, entry_id: &str, csr: Vec<u8>) -> Result<IssuedX509, CaError> {
        let mut all = self.new_x509_batch(vec![(entry_id.to_owned(), csr)]).await?;
        all.pop().unwrap_or_else(|| Err(CaError::malformed("the CA answered no item")))
    }

    /// X509-SVIDs of many entries, `(entry ID, CSR)` each; answers in the order asked, each for itself.
    ///
    /// # Errors
    /// [`CaError`] where the whole call failed.
    pub async fn new_x509_batch(
        &self,
        asked: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<Result<IssuedX509, CaError>>, CaError> {
        let expected = asked.len();
        let params: Vec<_> = asked.into_iter().map(|(entry_id, csr)| NewX509svidParams { entry_id, csr }).collect();
        let answer = self
            .call(|channel| {
                let request = BatchNewX509svidRequest { params: params.clone() };
                async move {
                    let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                    client.batch_new_x509svid(request).await
                }
            })
            .await?;
        if answer.results.len() != expected {
            return Err(CaError::malformed(format!("asked {expected} SVIDs, got {}", answer.results.len())));
        }
        Ok(answer.results.into_iter().map(item).collect())
    }

    /// A JWT-SVID of one entry for `audience` (at least one).
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn new_jwt(&self, entry_id: &str, audience: &[String], origin: &Origin) -> Result<IssuedJwt, CaError> {
        let answer = self
            .call(|channel| {
                let request = NewJwtsvidRequest { entry_id: entry_id.into(), audience: audience.to_vec() };
                let request = wire::of_origin(origin, request);
                async move { SvidClient::new(channel).new_jwtsvid(request).await }
            })
            .await?;
        wire::jwt_svid(answer.svid)
    }
}

fn item(item: Item) -> Result<IssuedX509, CaError> {
    match (item.svid, item.status) {
        (Some(svid), _) => wire::x509_svid(Some(svid)),
        (None, Some(status)) => Err(CaError::Refused { code: Code::from(status.code), message: status.message }),
        (None, None) => Err(CaError::malformed("an item without SVID and status")),
    }
}
