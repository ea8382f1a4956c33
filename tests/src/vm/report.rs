//! What a guest says on its second serial line, which the kernel's messages cannot reach.
//! Every output is preceded by its length, so that nothing a program prints can be taken for a result.

use super::PROGRAM_LIMIT;

/// Everything that came back from a guest.
#[derive(Debug)]
pub struct VmReport {
    /// What `uname -r` said in the guest.
    pub release: String,
    /// The kernel's messages and those of the first process.
    pub console: String,
    /// The programs in the order in which they ran.
    pub results: Vec<ProgramResult>,
}

/// How one program ended in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramResult {
    /// The name that the caller gave it.
    pub name: String,
    /// Its exit status as the shell counts: 128 + n for signal n, so 137 when its time was up.
    pub exit_code: u8,
    /// What it printed on both streams, the last part of it where that was too much.
    pub output: String,
}

impl VmReport {
    /// The result of a program by name.
    pub fn result(&self, name: &str) -> Option<&ProgramResult> {
        self.results.iter().find(|result| result.name == name)
    }
}

/// Reads the whole report, or says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<(String, Vec<ProgramResult>), String> {
    let mut rest = bytes;
    let release = match words(line(&mut rest)?).as_slice() {
        ["sekisho-vm", "1", release] => (*release).to_owned(),
        other => return Err(format!("it starts with `{}`", other.join(" "))),
    };
    let mut results = Vec::new();
    loop {
        match words(line(&mut rest)?).as_slice() {
            ["program", name, exit_code, size] if results.len() < PROGRAM_LIMIT => {
                let exit_code = number(exit_code)?;
                let output = take(&mut rest, number(size)?)?;
                results.push(ProgramResult { name: (*name).to_owned(), exit_code, output });
            }
            ["done", count] if number::<usize>(count)? == results.len() => return Ok((release, results)),
            other => return Err(format!("unexpected line `{}`", other.join(" "))),
        }
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a str, String> {
    let bytes: &'a [u8] = rest;
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it ends in the middle of a line")?;
    let (line, after) = bytes.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    std::str::from_utf8(line).map_err(|error| error.to_string())
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number in range"))
}

fn take(rest: &mut &[u8], size: usize) -> Result<String, String> {
    let (body, after) = rest
        .split_at_checked(size)
        .ok_or(format!("an output of {size} bytes is cut after {}", rest.len()))?;
    *rest = after;
    Ok(String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_forge_a_result() {
        let fake = "program second 0 0\ndone 2\n";
        let text = format!("sekisho-vm 1 6.1.0\nprogram first 1 {}\n{fake}done 1\n", fake.len());
        let (release, results) = parse(text.as_bytes()).unwrap();
        assert_eq!(release, "6.1.0");
        assert_eq!(results, [ProgramResult { name: "first".into(), exit_code: 1, output: fake.into() }]);
    }

    #[test]
    fn a_report_that_was_cut_or_bent_is_refused() {
        let good = "sekisho-vm 1 6.1.0\nprogram a 0 3\nyesdone 1\n";
        assert!(parse(good.as_bytes()).is_ok());
        for end in 0..good.len() {
            assert!(parse(&good.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        for (from, to) in [("done 1", "done 2"), (" 0 3", " 300 3"), ("vm 1", "vm 2"), ("program", "fault")] {
            assert!(parse(good.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
        }
    }
}
