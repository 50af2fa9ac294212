//! tpm2-pkcs11 over a software TPM: real TPM semantics. It needs a resource manager, and that a message bus.

use std::{fs, net::TcpListener, process::Command};

use crate::{
    Keep, PIN, SO_PIN, Site, Skip,
    command::{self, Group},
    first_file, folder,
};

/// A new token labelled `label` on a TPM of its own: its lockout state outlives a token.
///
/// # Errors
/// Why tpm2-pkcs11 cannot be used here.
pub fn tpm2_pkcs11(label: &str) -> Result<Site, Skip> {
    let module = first_file(
        &["/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so", "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1"],
        "libtpm2-pkcs11-1",
    )?;
    for (tool, package) in [
        ("swtpm", "swtpm"),
        ("tpm2-abrmd", "tpm2-abrmd"),
        ("dbus-run-session", "dbus"),
        ("tpm2_ptool", "libtpm2-pkcs11-tools"),
    ] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(tool).exists())
        });
        if !found {
            return Err(format!("{tool} is missing: install {package}"));
        }
    }
    let folder = folder()?;
    let root = folder.path().to_path_buf();
    let (state, store, bus) = (root.join("swtpm"), root.join("store"), root.join("bus"));
    for path in [&state, &store] {
        fs::create_dir(path).map_err(|e| e.to_string())?;
    }
    let mut site = Site::new(folder, module, format!("pkcs11:token={label}"))?;
    let (port, control) = two_ports()?;
    let mut swtpm = Command::new("swtpm");
    swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
    swtpm.arg(format!("dir={}", state.display())).arg("--server").arg(format!("type=tcp,port={port}"));
    swtpm.arg("--ctrl").arg(format!("type=tcp,port={control}"));
    site.keep.push(Keep::Process(Group::start(&mut swtpm, || TcpListener::bind(("127.0.0.1", control)).is_err())?));
    let mut manager = Command::new("dbus-run-session");
    manager.args(["--", "sh", "-c"]).arg(format!(
        "echo \"$DBUS_SESSION_BUS_ADDRESS\" >'{bus}.new' && mv '{bus}.new' '{bus}' && exec tpm2-abrmd --session \
         --allow-root --tcti=swtpm:host=127.0.0.1,port={port} --flush-all --max-transients=100",
        bus = bus.display()
    ));
    manager.env("PATH", with_sbin());
    site.keep.push(Keep::Process(Group::start(&mut manager, || bus.exists())?));
    let address = fs::read_to_string(&bus).map_err(|e| e.to_string())?;
    let site = site
        .with_env("DBUS_SESSION_BUS_ADDRESS", address.trim())
        .with_env("TPM2TOOLS_TCTI", "tabrmd:bus_type=session")
        .with_env("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session")
        .with_env("TPM2_PKCS11_STORE", store.display().to_string())
        .with_env("TPM2_PKCS11_LOG_LEVEL", "0")
        .with_env("TSS2_LOG", "all+none");
    let tool = |arguments: &[&str]| {
        let mut tool = Command::new("tpm2_ptool");
        tool.args(arguments).envs(site.env.iter().map(|(name, value)| (name, value)));
        command::run(&mut tool)
    };
    // The resource manager says nothing when it is ready; its first client waits for it.
    let mut made = tool(&["init"]);
    for _ in 0..50 {
        if made.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        made = tool(&["init"]);
    }
    made?;
    tool(&[
        "addtoken",
        "--pid=1",
        &format!("--label={label}"),
        &format!("--sopin={SO_PIN}"),
        &format!("--userpin={PIN}"),
    ])?;
    Ok(site)
}

fn with_sbin() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin");
    path
}

/// Two neighbouring free ports: swtpm's TCTI takes the second for granted.
fn two_ports() -> Result<(u16, u16), Skip> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?.port();
        let Some(next) = port.checked_add(1) else { continue };
        if TcpListener::bind(("127.0.0.1", next)).is_ok() {
            return Ok((port, next));
        }
    }
    Err("no two neighbouring ports are free".into())
}
