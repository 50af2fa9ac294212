//! Which slot holds the token that was asked for: exactly one, by what the token says of itself, or none.

use std::fmt;

use cryptoki::{
    context::Pkcs11,
    error::Error,
    slot::{Slot, TokenInfo},
};

use super::{
    error::{Fault, TokenError},
    uri::Uri,
};

/// What a token says of itself. Shown to operators; evidence of nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Label.
    pub label: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number; all zeros on some modules.
    pub serial: String,
    /// Firmware version, as `major.minor`.
    pub firmware: String,
}

/// The slot that was chosen and its token; no information where the module's own cannot be read.
pub(super) struct Chosen {
    pub slot: Slot,
    pub identity: Identity,
    pub info: Option<TokenInfo>,
}

/// Chooses among all slots with a token.
pub(super) fn choose(context: &Pkcs11, uri: &Uri, text: &str) -> Result<Chosen, Fault> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for slot in context.get_slots_with_token()? {
        // One bad slot must not hide the others.
        let info = context.get_token_info(slot);
        let identity = info.as_ref().map(Identity::of).unwrap_or_default();
        seen.push(shown(slot, &info, &identity));
        if matches(uri, slot, info.is_ok().then_some(&identity)) {
            found.push(Chosen { slot, identity, info: info.ok() });
        }
    }
    let (count, uri) = (found.len(), text.to_owned());
    let seen = if seen.is_empty() { "no slot has a token".into() } else { format!("there is {}", seen.join(", ")) };
    match (found.pop(), count) {
        (Some(chosen), 1) => Ok(chosen),
        (None, _) => Err(Fault::Gone(TokenError::NoToken { uri, seen })),
        (Some(_), _) => Err(Fault::Final(TokenError::SeveralTokens { uri, count, seen })),
    }
}

impl Identity {
    fn of(info: &TokenInfo) -> Self {
        // SoftHSM and others pad with NUL instead of blanks where nothing was set.
        let clean = |text: &str| text.trim_end_matches(['\0', ' ']).to_owned();
        Self {
            label: clean(info.label()),
            manufacturer: clean(info.manufacturer_id()),
            model: clean(info.model()),
            serial: clean(info.serial_number()),
            firmware: info.firmware_version().to_string(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} serial {:?} ({}, {})", self.label, self.serial, self.manufacturer, self.model)
    }
}

fn shown(slot: Slot, info: &Result<TokenInfo, Error>, identity: &Identity) -> String {
    match info {
        Ok(info) if info.token_initialized() => format!("{identity} in slot-id {}", slot.id()),
        Ok(_) => format!("an empty token in slot-id {}", slot.id()),
        Err(why) => format!("an unreadable token in slot-id {} ({why})", slot.id()),
    }
}

fn matches(uri: &Uri, slot: Slot, identity: Option<&Identity>) -> bool {
    let same = |asked: &Option<String>, there: fn(&Identity) -> &String| {
        asked.as_ref().is_none_or(|asked| identity.is_some_and(|identity| asked == there(identity)))
    };
    uri.slot_id.is_none_or(|id| id == slot.id())
        && same(&uri.token, |i| &i.label)
        && same(&uri.serial, |i| &i.serial)
        && same(&uri.model, |i| &i.model)
        && same(&uri.manufacturer, |i| &i.manufacturer)
}
