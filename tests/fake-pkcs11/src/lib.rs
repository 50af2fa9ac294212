//! A module in front of another: each call is forwarded unless the script has a rule for its function.
//!
//! `CHANCERY_FAKE_MODULE` names the module behind, `CHANCERY_FAKE_SCRIPT` a folder. A file in it with the name of a
//! function is its rule, read at every call: one line `ACTION VALUE TIMES`; `TIMES` is a number or `*`, and the file
//! is removed when it is used up. A file `NAME.calls` grows by one byte with each call.
//!
//! | action | effect |
//! |---|---|
//! | `code CKR` | answers CKR, forwards nothing |
//! | `after CKR` | forwards, then answers CKR as if it had failed |
//! | `hang 0` | does not come back while the file exists, then forwards |
//! | `flip 0` | forwards and changes one bit of the signature (`C_Sign`) |
//! | `first 0` | uses the first key that was ever used (`C_SignInit`) |
//! | `flags F` | adds these flags (`C_GetTokenInfo`) |
//! | `lie A` | says the opposite of the boolean attribute A (`C_GetAttributeValue`) |
//! | `absent A` | does not tell attribute A (`C_GetAttributeValue`) |
//!
//! Test only. The one crate of this project with `unsafe`: it offers a C interface.

#![allow(non_snake_case, reason = "the names of the standard")]
#![allow(clippy::missing_safety_doc, reason = "called by the module loader alone, as PKCS#11 says")]

mod script;

use std::{
    ptr::addr_of_mut,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use cryptoki_sys::*;

use self::script::{Action, rule};

/// The functions offered, and those behind them.
struct Lists {
    own: CK_FUNCTION_LIST,
    behind: CK_FUNCTION_LIST,
    _library: libloading::Library,
}

// SAFETY: function pointers and a loaded library; both are usable from every thread.
unsafe impl Send for Lists {}
unsafe impl Sync for Lists {}

static LISTS: OnceLock<Option<Lists>> = OnceLock::new();

#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let Some(lists) = LISTS.get_or_init(|| unsafe { load() }) else { return CKR_GENERAL_ERROR };
    // SAFETY: the caller gives a place for one pointer; the list is never written to.
    unsafe { *list = std::ptr::from_ref(&lists.own).cast_mut() };
    CKR_OK
}

unsafe fn load() -> Option<Lists> {
    // SAFETY: a PKCS#11 module, named by the test; its list lives as long as the library, which is never closed.
    unsafe {
        let library = libloading::Library::new(std::env::var_os("CHANCERY_FAKE_MODULE")?).ok()?;
        let get: CK_C_GetFunctionList = *library.get(b"C_GetFunctionList").ok()?;
        let mut list = std::ptr::null_mut();
        if get?(addr_of_mut!(list)) != CKR_OK {
            return None;
        }
        let behind = *list;
        let own = CK_FUNCTION_LIST {
            C_Initialize: Some(C_Initialize),
            C_Finalize: Some(C_Finalize),
            C_GetFunctionList: Some(C_GetFunctionList),
            C_GetSlotList: Some(C_GetSlotList),
            C_GetTokenInfo: Some(C_GetTokenInfo),
            C_OpenSession: Some(C_OpenSession),
            C_GetSessionInfo: Some(C_GetSessionInfo),
            C_Login: Some(C_Login),
            C_FindObjectsInit: Some(C_FindObjectsInit),
            C_GenerateKeyPair: Some(C_GenerateKeyPair),
            C_GetAttributeValue: Some(C_GetAttributeValue),
            C_SignInit: Some(C_SignInit),
            C_Sign: Some(C_Sign),
            C_DestroyObject: Some(C_DestroyObject),
            ..behind
        };
        Some(Lists { own, behind, _library: library })
    }
}

/// Calls the function behind, as the script says.
macro_rules! forward {
    ($name:ident ( $($arg:expr),* )) => {
        forward!($name ( $($arg),* ) rule(stringify!($name)))
    };
    ($name:ident ( $($arg:expr),* ) $rule:expr) => {{
        let Some(Some(lists)) = LISTS.get() else { return CKR_GENERAL_ERROR };
        let Some(function) = lists.behind.$name else { return CKR_FUNCTION_NOT_SUPPORTED };
        match $rule {
            Some(Action::Code(code)) => code,
            // SAFETY: the caller's own arguments.
            Some(Action::After(code)) => { let _ = unsafe { function($($arg),*) }; code }
            _ => unsafe { function($($arg),*) },
        }
    }};
}

unsafe extern "C" fn C_Initialize(args: *mut std::ffi::c_void) -> CK_RV {
    forward!(C_Initialize(args))
}

unsafe extern "C" fn C_Finalize(reserved: *mut std::ffi::c_void) -> CK_RV {
    forward!(C_Finalize(reserved))
}

unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    forward!(C_GetSlotList(present, slots, count))
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let action = rule("C_GetTokenInfo");
    let answer = forward!(C_GetTokenInfo(slot, info) action);
    if let Some(Action::Flags(flags)) = action {
        // SAFETY: filled in by the call above.
        unsafe { (*info).flags |= flags };
    }
    answer
}

unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut std::ffi::c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    forward!(C_OpenSession(slot, flags, application, notify, session))
}

unsafe extern "C" fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) -> CK_RV {
    forward!(C_GetSessionInfo(session, info))
}

unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    len: CK_ULONG,
) -> CK_RV {
    forward!(C_Login(session, user, pin, len))
}

unsafe extern "C" fn C_FindObjectsInit(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    forward!(C_FindObjectsInit(session, template, count))
}

unsafe extern "C" fn C_GenerateKeyPair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut CK_OBJECT_HANDLE,
    private_key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    forward!(C_GenerateKeyPair(
        session,
        mechanism,
        public,
        public_count,
        private,
        private_count,
        public_key,
        private_key
    ))
}

unsafe extern "C" fn C_GetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's own template.
    let asked = |kind: CK_ULONG| {
        (0..count as usize).find(|n| unsafe { (*template.add(*n)).type_ } == kind).map(|n| unsafe { template.add(n) })
    };
    match script::peek("C_GetAttributeValue") {
        Some(Action::Lie(kind)) => {
            let Some(attribute) = asked(kind) else {
                return forward!(C_GetAttributeValue(session, object, template, count) None);
            };
            let action = rule("C_GetAttributeValue");
            let answer = forward!(C_GetAttributeValue(session, object, template, count) None);
            // SAFETY: a CK_BBOOL that was filled in.
            unsafe {
                if matches!(action, Some(Action::Lie(_))) && !(*attribute).pValue.is_null() {
                    *(*attribute).pValue.cast::<CK_BBOOL>() ^= 1;
                }
            }
            answer
        }
        Some(Action::Absent(kind)) => {
            let Some(attribute) = asked(kind) else {
                return forward!(C_GetAttributeValue(session, object, template, count) None);
            };
            let _ = rule("C_GetAttributeValue");
            // SAFETY: the caller's own template.
            unsafe { (*attribute).ulValueLen = CK_UNAVAILABLE_INFORMATION };
            CKR_ATTRIBUTE_TYPE_INVALID
        }
        _ => forward!(C_GetAttributeValue(session, object, template, count)),
    }
}

/// The key that was used first in this process.
static FIRST: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn C_SignInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    let first = FIRST.compare_exchange(0, key, Ordering::SeqCst, Ordering::SeqCst).err().unwrap_or(key);
    let action = rule("C_SignInit");
    let key = if matches!(action, Some(Action::First)) { first } else { key };
    forward!(C_SignInit(session, mechanism, key) action)
}

unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    // The first call only asks for the length.
    if signature.is_null() {
        return forward!(C_Sign(session, data, data_len, signature, signature_len) None);
    }
    let action = rule("C_Sign");
    let answer = forward!(C_Sign(session, data, data_len, signature, signature_len) action);
    if matches!(action, Some(Action::Flip)) {
        // SAFETY: a signature of at least eight bytes was written there.
        unsafe { *signature.add(7) ^= 1 };
    }
    answer
}

unsafe extern "C" fn C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    forward!(C_DestroyObject(session, object))
}
