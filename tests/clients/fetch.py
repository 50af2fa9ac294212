"""Fetches and verifies an X509-SVID and a JWT-SVID with the unmodified `spiffe` package; prints both IDs."""

from cryptography import x509
from spiffe import JwtSvid, WorkloadApiClient

with WorkloadApiClient() as client:
    svid = client.fetch_x509_svid()
    bundle = client.fetch_x509_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    issuers = [a for a in bundle.x509_authorities if a.subject == svid.leaf.issuer]
    assert issuers, "no authority of the bundle issued the leaf"
    svid.leaf.verify_directly_issued_by(issuers[0])
    uris = svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    assert uris == [str(svid.spiffe_id)], uris

    token = client.fetch_jwt_svid(audience={"ledger"})
    jwt_bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(token.spiffe_id.trust_domain)
    verified = JwtSvid.parse_and_validate(token.token, jwt_bundle, {"ledger"})
    client.validate_jwt_svid(token.token, audience="ledger")
    print(svid.spiffe_id, verified.spiffe_id)
