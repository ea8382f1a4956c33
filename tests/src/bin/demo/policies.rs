//! The policies of the demo: the example as it is, and small edits of it as an admin would make them.
use anyhow::{Context, Result};

/// Begins a flow in a policy file.
const HEAD: &str = "[[flow]]\n";

/// Takes one flow out, up to the empty line that ends it; returns the new policy and what was taken out.
pub(crate) fn without(policy: &str, flow: &str) -> Result<(String, String)> {
    let head = format!("{HEAD}name = \"{flow}\"\n");
    let (before, rest) =
        policy.split_once(&head).with_context(|| format!("the policy has no flow `{flow}`"))?;
    let (body, after) = rest.split_once("\n\n").with_context(|| format!("flow `{flow}` has no end"))?;
    Ok((format!("{before}{after}"), format!("{head}{body}\n")))
}

/// Gives a flow another name, which is another flow to everything that counts by name.
pub(crate) fn renamed(policy: &str, flow: &str, name: &str) -> Result<String> {
    let (old, new) = (format!("{HEAD}name = \"{flow}\""), format!("{HEAD}name = \"{name}\""));
    anyhow::ensure!(policy.contains(&old), "the policy has no flow `{flow}`");
    Ok(policy.replacen(&old, &new, 1))
}

/// Writes a flow; `more` are further lines.
pub(crate) fn flow(
    name: &str,
    [from, to]: [&str; 2],
    services: &[&str],
    purpose: &str,
    more: &str,
) -> String {
    let services: Vec<_> = services.iter().map(|service| format!("\"{service}\"")).collect();
    let services = services.join(", ");
    format!(
        "{HEAD}name = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = [{services}]\n\
         purpose = \"{purpose}\"\nowner = \"システム運用担当者\"\n{more}"
    )
}

/// Adds a flow at the end.
pub(crate) fn with(policy: &str, flow: &str) -> String {
    format!("{policy}\n{flow}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "a = 1\n\n[[flow]]\nname = \"one\"\nx = 1\n\n[[flow]]\nname = \"two\"\n\n[end]\n";

    #[test]
    fn a_flow_goes_and_the_others_stay() {
        let (left, gone) = without(POLICY, "one").unwrap();
        assert_eq!(left, "a = 1\n\n[[flow]]\nname = \"two\"\n\n[end]\n");
        assert_eq!(gone, "[[flow]]\nname = \"one\"\nx = 1\n");
        assert!(without(POLICY, "three").is_err());
    }

    #[test]
    fn a_new_name_replaces_the_old_one_once() {
        assert!(renamed(POLICY, "two", "zwei").unwrap().contains("name = \"zwei\"\n\n[end]"));
        assert!(renamed(POLICY, "tw", "zwei").is_err());
    }
}
