//! The adversarial cases of the threat analysis, as a hostile node plays them against a running CA.
//!
//! Every attack is made from genuine evidence of an emulated TPM, over the network. Each test asserts that
//! the peer learns `denied`, that the record has exactly the code named, and that nothing else changed: a
//! stranger's failure touches no node ([`court::Court::refuses`]), a node's own ends its standing and its
//! instances and nobody else's ([`court::Court::fails`]).
//!
//! What is only a rule about bytes is tested form by form in `chancery_core::evidence::tpm::tests` and
//! `chancery_core::eventlog::tests`, by the same numbers; here each code of such a rule comes over the wire at
//! least once.
//!
//! | cases | where |
//! |---|---|
//! | 1 to 10, 12, 14, 18, 40, 44, 54 (version) | [`openings`]: refused before a challenge is spent |
//! | 44 (names ignored), 54 (unknown fields, wishes) | [`openings`]: an honest node joins all the same |
//! | 11, 13, 14 (bits painted on), 19, 20, 22 to 28, 30, 45, 48, 52 | [`answers`]: strangers |
//! | 20 (second answer after an admission), 46, 47, 48, 57 | [`answers`]: one EK, one AK, one node |
//! | 26, 27, 28, 31, 32, 33, 37, 40 (bits painted on), 42, 43 | [`standing`]: the node's own failures |
//! | 49, 50, 51 | [`standing`]: boot state |
//! | 33 to 39, PCR_POLICY | [`measured`]: synthetic logs, really extended and quoted |
//! | POLICY_MISSING, POLICY_FIRST_USE, POLICY_ON_CHANGE, FIRMWARE_CHANGED | [`policies`] |
//! | 53 | [`relay`] |
//! | 55 | [`flood`] |
//! | 29 | [`flips`]: what a TPM signed, bit by bit |
//! | 15, 16, 17, 29, 41 | every bit, byte and form: the core's tests |
//! | 21 | `chancery_ca::enroll`, by a clock that is set |
//! | 56 | the attestor's own tests of challenges |
//! | 58 | equal text: [`court::denied`], for every case here; equal work: the core's tests |
//!
//! The cases of PKCS#11 attestation, numbered by themselves, are in [`tokens`] (2 to 38), [`revocation`] (39) and
//! [`statements`] (40 to 45); docs/SOURCES.md has each with its tests, here and in the core.

mod answers;
mod certificates;
mod court;
mod flips;
mod flood;
mod forge;
mod log;
mod makers;
mod measured;
mod openings;
mod policies;
mod relay;
mod revocation;
mod rig;
mod standing;
mod statements;
mod token_rig;
mod tokens;
