//! What the commands about doors have in common: one question to a role, a code from a person, a QR code.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use gateway::client;
use gateway::wire::persons::{Code, Proof};
use gateway::wire::{Answer, Ask};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::exit::CliError;
use crate::output::Output;

/// Longest line of a code in bytes.
const CODE_BYTES_MAX: usize = 128;

/// Asks a role.
pub(crate) fn ask(socket: &Path, question: Ask) -> Result<Answer, CliError> {
    match client::ask(socket, question)? {
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        answer => Ok(answer),
    }
}

/// Where codes come from: a file, or standard input, a line each. On a terminal the person is asked.
#[derive(Debug)]
pub(crate) struct Codes {
    file: Option<PathBuf>,
}

impl Codes {
    /// From this file, or from standard input.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Codes { file }
    }

    /// The next code.
    pub(crate) fn read(&self, output: &Output, en: &str, ja: &str) -> Result<Code, CliError> {
        let line = match self.file.as_deref().filter(|file| *file != Path::new("-")) {
            Some(file) => {
                let failed = |source| CliError::Read { path: file.to_owned(), source };
                let text = std::fs::read_to_string(file).map_err(failed)?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => line(output.pick(en, ja))?,
        };
        let code = Code::new(&line);
        if code.as_str().is_empty() {
            let why = output.pick("no code was given", "コードが入力されていません");
            return Err(CliError::Question(why.to_owned()));
        }
        Ok(code)
    }

    /// A code of this person's.
    pub(crate) fn proof(&self, output: &Output, person: &str) -> Result<Proof, CliError> {
        let en = format!("Code of {person}: ");
        let ja = format!("{person} のコード: ");
        Ok(Proof { person: person.to_owned(), code: self.read(output, &en, &ja)? })
    }
}

/// One line of standard input; asked for on a terminal. A code counts once: that others see it typed does no harm.
fn line(prompt: &str) -> Result<String, CliError> {
    if io::stdin().is_terminal() {
        let mut terminal = io::stderr().lock();
        // A terminal that takes no prompt still gives a line.
        let _ = write!(terminal, "{prompt}").and_then(|()| terminal.flush());
    }
    let failed = |source| CliError::Read { path: PathBuf::from("-"), source };
    let mut bytes = Vec::new();
    let mut limited = io::Read::take(io::stdin().lock(), 0);
    while bytes.last() != Some(&b'\n') && bytes.len() < CODE_BYTES_MAX {
        limited.set_limit(1);
        if limited.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A text as a QR code (ISO/IEC 18004) of half blocks, dark on light as scanners expect it on a dark terminal, too.
pub(crate) fn qr(text: &str) -> Option<String> {
    let code = QrCode::new(text.as_bytes()).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_is_square_and_too_much_is_none() {
        let code = qr("otpauth://totp/a?secret=b").unwrap();
        let widths: Vec<usize> = code.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]) && widths[0] > 20, "{code}");
        assert!(qr(&"x".repeat(5000)).is_none());
    }
}
