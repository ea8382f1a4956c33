//! `nft` reads what the policy crate writes.
use std::io::Write as _;
use std::process::{Command, Stdio};

use policy::render::render;

use crate::scene::Scene;

#[test]
fn nft_accepts_the_rendered_rule_set() {
    for scene in [Scene::clinic(), Scene::overlapping()] {
        let text = render(&scene.ruleset);
        let mut command = Command::new("nft");
        command.args(["-c", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nft (package nftables)");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
