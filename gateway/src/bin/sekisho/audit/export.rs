//! A copy of the log that anybody can check: its files as C2SP tlog-tiles lays them out, its key, a verifier, a README.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use events::Deed;
use gateway::wire::record::{RecordAnswer, RecordAsk, Sealed};
use jiff::Timestamp;
use policy::diagnostic::Language;
use record::PYTHON_VERIFIER;
use record::tile::{Tile, files_of};
use serde_json::json;

use super::{ask, sealed, tar, tell};
use crate::exit::{CliError, Exit};
use crate::output::Output;

const README_EN: &str = "\
Transparency log of a Sekisho gateway
=====================================

  checkpoint      size and root of the log, signed (C2SP tlog-checkpoint)
  tile/           the entries (tile/entries) and the hashes over them (C2SP tlog-tiles, RFC 6962)
  key.pub         the log's public key (C2SP signed-note)
  verify_tlog.py  a verifier that needs Python 3 and nothing else

Check it, with Sekisho or without:

  sekisho audit verify --dir . --key KEY --checkpoint KEPT
  python3 verify_tlog.py . KEY --checkpoint KEPT

KEY is the public key: take it from a place you trust, not from this copy. KEPT is a checkpoint that was kept elsewhere;
with it, a log that was put back to an earlier state is found. An entry is one line of JSON.
";

const README_JA: &str = "\
関所ゲートウェイの監査ログ
==========================

  checkpoint      ログの件数と全体のハッシュ値に署名したもの (C2SP tlog-checkpoint)
  tile/           記録 (tile/entries) とハッシュ値 (C2SP tlog-tiles, RFC 6962)
  key.pub         ログの公開鍵 (C2SP signed-note)
  verify_tlog.py  検証プログラム。Python 3 だけで動きます

検証のしかた (Sekisho を使う場合、使わない場合):

  sekisho audit verify --dir . --key KEY --checkpoint KEPT
  python3 verify_tlog.py . KEY --checkpoint KEPT

KEY は公開鍵です。この写しの中のものではなく、信頼できる場所に控えたものを使ってください。KEPT は別の場所に保管した
checkpoint です。これがあれば、ログ全体を過去の状態に戻す改ざんも見つかります。記録は1件1行のJSONです。
";

/// `sekisho audit export`.
pub(crate) fn export(output: &Output, record: &Path, target: &Path) -> Result<Exit, CliError> {
    let sealed = sealed(record)?;
    let mut sink = Sink::open(target)?;
    let copied = copy(record, &sealed, &mut sink).and_then(|()| sink.finish());
    if let Err(error) = copied {
        // Half an export must not be taken for one.
        let _ = fs::remove_dir_all(target).or_else(|_| fs::remove_file(target));
        return Err(error);
    }
    let entry = tell(record, Deed::LogExport { entries: sealed.size })?;
    let line = match output.language {
        Language::En => format!("{}: {} entries, recorded as entry #{entry}", target.display(), sealed.size),
        Language::Ja => format!("{}: {}件、記録番号 #{entry}", target.display(), sealed.size),
    };
    output.answer(
        &line,
        &json!({ "target": target, "entries": sealed.size, "key": sealed.key, "entry": entry }),
    );
    Ok(Exit::Ok)
}

/// Brings every file of the log as its checkpoint shows it.
fn copy(record: &Path, sealed: &Sealed, sink: &mut Sink) -> Result<(), CliError> {
    for tile in files_of(sealed.size) {
        let path = tile.path();
        sink.add(&path.to_string_lossy(), &fetch(record, tile)?)?;
    }
    sink.add("checkpoint", sealed.note.as_bytes())?;
    sink.add("key.pub", format!("{}\n", sealed.key).as_bytes())?;
    sink.add("verify_tlog.py", PYTHON_VERIFIER.as_bytes())?;
    sink.add("README.txt", format!("{README_JA}\n\n{README_EN}").as_bytes())
}

/// The log may have grown since its checkpoint was asked for: then the role has a longer file of the same place.
fn fetch(record: &Path, tile: Tile) -> Result<Vec<u8>, CliError> {
    let name = |tile: Tile| tile.path().to_string_lossy().into_owned();
    let bytes = match ask(record, RecordAsk::File { name: name(tile) }) {
        Err(CliError::Fault(_)) => {
            let sealed = sealed(record)?;
            let longer =
                files_of(sealed.size).find(|other| (other.kind, other.index) == (tile.kind, tile.index));
            ask(record, RecordAsk::File { name: name(longer.unwrap_or(tile)) })?
        }
        other => other?,
    };
    let RecordAnswer::File { base64 } = bytes else { return Err(CliError::Confused) };
    let bytes = BASE64_STANDARD.decode(base64).map_err(|_| CliError::Confused)?;
    Ok(record::reader::beginning(tile, bytes))
}

/// Where an export goes.
enum Sink {
    Directory(PathBuf),
    Tar { path: PathBuf, stem: String, file: BufWriter<File>, modified_s: u64 },
}

impl Sink {
    fn open(target: &Path) -> Result<Self, CliError> {
        if target.extension().is_none_or(|extension| extension != "tar") {
            make(target)?;
            return Ok(Sink::Directory(target.to_owned()));
        }
        let file = create(target).map_err(|source| write_error(target, source))?;
        let stem = target.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let modified_s = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        Ok(Sink::Tar { path: target.to_owned(), stem, file: BufWriter::new(file), modified_s })
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        match self {
            Sink::Directory(directory) => {
                let path = directory.join(name);
                if let Some(parent) = path.parent() {
                    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
                    made.map_err(|source| write_error(parent, source))?;
                }
                put(&path, bytes)
            }
            Sink::Tar { path, stem, file, modified_s } => {
                tar::add(file, &format!("{stem}/{name}"), bytes, *modified_s)
                    .map_err(|source| write_error(path, source))
            }
        }
    }

    fn finish(self) -> Result<(), CliError> {
        match self {
            Sink::Directory(_) => Ok(()),
            Sink::Tar { path, mut file, .. } => tar::finish(&mut file)
                .and_then(|()| file.flush())
                .and_then(|()| file.get_ref().sync_all())
                .map_err(|source| write_error(&path, source)),
        }
    }
}

/// Makes a directory that was not there.
pub(super) fn make(directory: &Path) -> Result<(), CliError> {
    DirBuilder::new().mode(0o700).create(directory).map_err(|source| write_error(directory, source))
}

/// Writes a file that was not there.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let written = create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| write_error(path, source))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_error(path: &Path, source: io::Error) -> CliError {
    CliError::Write { path: path.to_owned(), source }
}
