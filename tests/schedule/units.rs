//! The systemd units for real: a systemd of its own in a guest with OpenZFS,
//! where a timer stores a snapshot at its hour. Only where `AKASHITA_ZFS_VM`
//! names the directory of zfs-vm-run; tests/schedule/units runs in the guest.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Place, program, skip};

const TOOLS: [&str; 13] = [
    "akashita-choose",
    "akashita-conf",
    "akashita-receive",
    "glacier-chain",
    "glacier-chunk",
    "glacier-get",
    "glacier-local",
    "glacier-ls",
    "glacier-mend",
    "glacier-proof",
    "glacier-put",
    "glacier-verify",
    "glacier-window",
];

/// Everything that is installed in the guest.
fn share(place: &Place) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["bin", "systemd"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    for name in TOOLS {
        let to = place.path("bin").join(name);
        let stripped = Command::new("strip").arg("-o").arg(&to).arg(program(name)).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(program(name), &to).unwrap();
        }
    }
    for (from, to) in [("scripts", "bin"), ("etc/systemd", "systemd")] {
        for entry in fs::read_dir(top.join(from)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("akashita-") {
                fs::copy(top.join(from).join(&name), place.path(to).join(&name)).unwrap();
            }
        }
    }
    fs::copy(top.join("tests/schedule/units"), place.path("units")).unwrap();
}

#[test]
fn a_timer_stores_a_snapshot_of_real_zfs_and_a_failure_is_mailed() {
    let Some(vm) = std::env::var_os("AKASHITA_ZFS_VM") else {
        skip("AKASHITA_ZFS_VM: not set, no systemd starts the units");
        return;
    };
    let place = Place::default();
    share(&place);
    let mut guest = Command::new(Path::new(&vm).join("zfs-vm-run"));
    guest.args(["-n", "-t", "900", "-s"]).arg(place.path("")).args(["--", "sh", "./units"]);
    let output = guest.output().unwrap();
    let (told, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}{complaints}");
    let well = "akashita-backup.service success\n\
                akashita-status.service success\n\
                akashita-verify.service success\n\
                akashita-drill.service success\n\
                akashita-backup.service success\n\
                akashita-backup.service exit-code\n\
                mail To: root\nmail Subject: ";
    assert!(told.starts_with(well), "{told}");
    assert!(told.contains(": akashita-backup has failed\n"), "{told}");
    assert!(told.contains("\nmail akashita-backup: tank/home@akashita"), "{told}");
    assert!(told.contains("\nmail It ended with status 69.\n"), "{told}");
    assert!(told.ends_with("\nwalls hold\n"), "{told}");
}
