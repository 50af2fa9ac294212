//! JSON objects that name each member once: a second one of the same name is an error, not an override.

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
#[cfg(feature = "jwt")]
use serde_json::{Map, Value};

/// Members of a JSON object in order of appearance, names unique.
pub(crate) struct Members<V>(pub(crate) Vec<(String, V)>);

#[cfg(feature = "jwt")]
impl Members<Value> {
    /// Reads one object from JSON text and nothing after it.
    pub(crate) fn parse(text: &[u8]) -> Option<Map<String, Value>> {
        let members: Self = serde_json::from_slice(text).ok()?;
        Some(members.0.into_iter().collect())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueNames(PhantomData))
    }
}

struct UniqueNames<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueNames<V> {
    type Value = Members<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("member '{name}' occurs twice")));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Members(members))
    }
}
