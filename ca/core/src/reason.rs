//! Why something was refused: one table of codes for the record, the metrics and `docs/ERRORS.md`.
//!
//! The record and the operator get the code; the peer gets a coarse `denied`.

use std::fmt;

macro_rules! reasons {
    ($($name:ident, $code:literal, $meaning:literal, $remedy:literal;)*) => {
        /// A precise reason for a refusal.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Reason { $(#[doc = $meaning] $name,)* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code written to the record.
            pub fn code(self) -> &'static str { match self { $(Self::$name => $code,)* } }

            /// What it means, one sentence without a full stop.
            pub fn meaning(self) -> &'static str { match self { $(Self::$name => $meaning,)* } }

            /// What an operator can do about it.
            pub fn remedy(self) -> &'static str { match self { $(Self::$name => $remedy,)* } }
        }
    };
}

reasons! {
    ActivationDue, "ACTIVATION_DUE", "the last activation is too old and no new one was made", "the attestor repeats with activation by itself";
    ActivationFailed, "ACTIVATION_FAILED", "the proof of EK activation is wrong", "check that the attestor talks to the TPM whose EK certificate it sends";
    AkChanged, "AK_CHANGED", "a known EK came with another attestation key and no activation", "the attestor repeats with activation by itself; seen often, look at who runs it";
    AkTemplate, "AK_TEMPLATE", "the attestation key is not exactly of the required template", "run our attestor; other attestation keys are never admitted";
    AttestType, "ATTEST_TYPE", "an attestation structure of another type stands in this place", "the evidence is forged or the attestor is broken";
    CertifyName, "CERTIFY_NAME", "the certified key is not the node key", "the evidence is forged or the attestor is broken";
    CertifyNonce, "CERTIFY_NONCE", "the certification is not of this challenge and connection", "a replay or relay: look at the source address";
    ChallengeExpired, "CHALLENGE_EXPIRED", "the answer came after the challenge ended", "the TPM or the network is too slow; attest again";
    ChannelUnbound, "CHANNEL_UNBOUND", "the connection has no TLS exporter to bind evidence to", "connect to the CA directly: nothing attests through a proxy that ends TLS";
    ClassClosed, "CLASS_CLOSED", "an operator revoked an instance of the class on this node, or the class: it begins here no more", "find out what happened to the revoked one, then `chancery-ca class reopen NODE CLASS`";
    ClockRollback, "CLOCK_ROLLBACK", "the TPM clock went back within one boot", "a TPM state was restored from a copy: treat the machine as compromised";
    CsrKey, "CSR_KEY", "the CSR is for another key than the node key", "the evidence is forged or the attestor is broken";
    CsrSignature, "CSR_SIGNATURE", "the CSR's self-signature is wrong or its key is not allowed", "make the CSR with P-256, P-384 or RSA of at least 2048 bits";
    DeviceCertCrl, "DEVICE_CERT_CRL", "no CRL in force says whether a certificate of the device's chain was revoked", "put its issuer's newest CRL into `pkcs11.enrolment_crl_files` and run `chancery-ca policy reload`";
    DeviceCertEku, "DEVICE_CERT_EKU", "the device certificate is not for client authentication", "issue it with the extended key usage clientAuth";
    DeviceCertProfile, "DEVICE_CERT_PROFILE", "the device certificate is a CA's, or its key usage or a critical extension does not fit", "issue it as a leaf with the key usage digitalSignature";
    DeviceCertRevoked, "DEVICE_CERT_REVOKED", "the device certificate, or a CA's above it, was revoked by its issuer", "replace the token; if it was revoked in error, issue a new certificate for the key";
    DeviceCertUntrusted, "DEVICE_CERT_UNTRUSTED", "the device certificate chains to no enrolment CA", "add the CA to `pkcs11.enrolment_ca_file`, and send its intermediates from the node";
    DeviceCertValidity, "DEVICE_CERT_VALIDITY", "the device certificate is expired or not yet valid", "check the clock; issue a new certificate for the key";
    EkCriticalExt, "EK_CRITICAL_EXT", "the EK certificate has a critical extension we do not know", "enrol the EK by hash if the device is genuine";
    EkDenied, "EK_DENIED", "the EK, manufacturer or firmware is on the deny list", "replace the device or update its firmware";
    EkEku, "EK_EKU", "the EK certificate is not for endorsement keys", "send the EK certificate, not another one";
    EkProfile, "EK_PROFILE", "the certificate is no EK certificate", "send the EK certificate, not a CA or platform certificate";
    EkSan, "EK_SAN", "manufacturer, model or version are missing, doubled or not the anchor's", "import the anchor with the manufacturer it issues for";
    EkUnknown, "EK_UNKNOWN", "the EK is not enrolled", "run `chancery-attestor ek` on the node and `chancery-ca node enrol --ek HASH` here";
    EkUntrusted, "EK_UNTRUSTED", "the EK certificate chains to no imported anchor", "run `chancery-ca anchor import FILE` with the manufacturer's issuing CA";
    EkValidity, "EK_VALIDITY", "the EK certificate is expired or not yet valid", "check the clock; enrol the EK by hash if the device is genuine";
    EkWeak, "EK_WEAK", "the EK's algorithm or size is not allowed", "use a TPM with an RSA-2048, P-256 or P-384 EK";
    EvidenceMalformed, "EVIDENCE_MALFORMED", "the evidence does not parse", "run the attestor of this release";
    EvidenceTooLarge, "EVIDENCE_TOO_LARGE", "a part of the evidence exceeds its limit", "run the attestor of this release";
    ExecutableRevoked, "EXECUTABLE_REVOKED", "an operator revoked the executable by its hash", "install another build of it; a revoked hash stays revoked";
    FirmwareChanged, "FIRMWARE_CHANGED", "the TPM firmware changed and no activation was made", "the attestor repeats with activation by itself";
    IdentityConflict, "IDENTITY_CONFLICT", "the node, EK or attestation key is bound to other hardware", "evict the old node if the hardware was replaced";
    InstanceHeld, "INSTANCE_HELD", "an operator or a detector holds the instance: nothing new is issued for it for a while", "find out what it did; the hold ends by itself, `chancery-ca hold release` ends it now, `chancery-ca revoke --instance ID` is for ever";
    JoinTokenExpired, "JOIN_TOKEN_EXPIRED", "the join token's time is over; it is spent", "make a new one with `chancery-ca token generate`";
    JoinTokenUnknown, "JOIN_TOKEN_UNKNOWN", "the join token is unknown or was used", "make a new one with `chancery-ca token generate`";
    KeyDenied, "KEY_DENIED", "the attestation key, its device or its CA is on the deny list", "replace the token, or take it off `pkcs11.deny`";
    KeyMismatch, "KEY_MISMATCH", "a certificate or vendor evidence is of another key than the attestation key", "send the certificate of the key that signs";
    KeyProof, "KEY_PROOF", "the attestation key did not sign this challenge on this connection", "a replay or relay: look at the source address";
    KeyReused, "KEY_REUSED", "the CSR's key is an attestation key or another identity's key", "run our attestor; it makes a key of its own for every SVID";
    KeyUnknown, "KEY_UNKNOWN", "the attestation key is not enrolled", "run `chancery-attestor key` on the node and `chancery-ca node enrol --key HASH` here";
    KeyWeak, "KEY_WEAK", "the attestation key's kind, size or exponent is not allowed, or its point is not on the curve", "use P-256, P-384, or RSA of 2048 to 4096 bits with exponent 65537";
    LogBank, "LOG_BANK", "the event log has no SHA-256 digests", "enable the SHA-256 bank in the firmware";
    LogDataDigest, "LOG_DATA_DIGEST", "an event's data does not hash to its digest", "the log was altered: treat the machine as compromised";
    LogMalformed, "LOG_MALFORMED", "the event log does not parse or exceeds a limit", "look at the firmware's log with `chancery-attestor doctor`";
    LogMissing, "LOG_MISSING", "the policy requires an event log and none came", "mount securityfs on the node, or set `log.required = false`";
    LogReplay, "LOG_REPLAY", "the event log does not replay to the quoted PCRs", "the log was altered: treat the machine as compromised";
    LogSecureboot, "LOG_SECUREBOOT", "secure boot is off or its measurements are out of order", "turn secure boot on, or change the policy";
    NodeBanned, "NODE_BANNED", "an operator banned the node", "`chancery-ca node evict` lifts the ban";
    NodekeyTemplate, "NODEKEY_TEMPLATE", "the node key is not exactly of the required template", "run our attestor; other node keys are never admitted";
    PcrDigest, "PCR_DIGEST", "the PCR values do not hash to the quoted digest", "the evidence is forged or the attestor is broken";
    PcrPolicy, "PCR_POLICY", "a PCR has a value the policy does not allow", "`chancery-ca policy explain NODE` shows which; update the policy or the machine";
    PcrRuntimeChange, "PCR_RUNTIME_CHANGE", "PCRs 0 to 7 changed without a reboot", "somebody extended a boot PCR: treat the machine as compromised";
    PcrSelection, "PCR_SELECTION", "the quote is not over exactly the PCRs asked for", "enable the SHA-256 bank; else the evidence is forged";
    PolicyFirstUse, "POLICY_FIRST_USE", "the policy admits no node that was not seen before", "set `first_use = \"allow\"` while enrolling";
    PolicyMissing, "POLICY_MISSING", "no policy matches this manufacturer and model", "add one to the policy file and run `chancery-ca policy reload`";
    PolicyOnChange, "POLICY_ON_CHANGE", "the boot state changed and the policy denies changes", "approve the new state with `policy learn`, or set `on_change = \"alert\"`";
    QuoteNonce, "QUOTE_NONCE", "the quote is not of this challenge and connection", "a replay or relay: look at the source address";
    QuoteSignature, "QUOTE_SIGNATURE", "the quote is not signed by the attestation key", "the evidence is forged or the attestor is broken";
    ResetRollback, "RESET_ROLLBACK", "the TPM's reset counter went back and no activation was made", "the TPM was cleared: the attestor repeats with activation by itself";
    SigScheme, "SIG_SCHEME", "a signature has another scheme than its key", "the evidence is forged or the attestor is broken";
    SignerMismatch, "SIGNER_MISMATCH", "the attestation names another signer than the attestation key", "the evidence is forged or the attestor is broken";
    TwoHosts, "TWO_HOSTS", "the token attested from another address while its SVID was still good", "find out who holds the token; `pkcs11.two_hosts = \"alert\"` only records it";
    UnknownType, "UNKNOWN_TYPE", "the attestation type is not configured", "add it to `node_attestors` in the CA's configuration";
    VendorChain, "VENDOR_CHAIN", "the vendor evidence does not lead to a pinned root by the one shape its maker uses", "add the maker's root or sub-CA to the configuration; else the evidence is forged";
    VendorClaim, "VENDOR_CLAIM", "a claim of the vendor evidence is absent, doubled, unreadable or contradicts another", "the evidence is forged, or of a device or firmware not known yet";
    VendorExportable, "VENDOR_EXPORTABLE", "the key can leave its device, or the device does not say that it cannot", "make the key without export; see `require_unexportable`";
    VendorImported, "VENDOR_IMPORTED", "the device does not say that it generated the key", "generate the key in the device";
    VendorKey, "VENDOR_KEY", "the vendor evidence is about another key, or one that is not allowed", "send the evidence of the very key that attests";
    VendorKind, "VENDOR_KIND", "the kind of vendor evidence is unknown or not enabled", "enable the vendor in the CA's configuration";
    VendorPolicy, "VENDOR_POLICY", "the device or its firmware is not one the operator allows", "allow the device's serial number, or update its firmware";
    VendorValidity, "VENDOR_VALIDITY", "a certificate of the vendor evidence is expired or not yet valid", "check the clock; see `allow_expired_device`";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
