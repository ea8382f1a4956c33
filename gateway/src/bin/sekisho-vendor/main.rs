//! `sekisho-vendor`: the engineer's side of remote maintenance. Asks the clinic, waits, and forwards one local address to
//! the one target that was approved. It can open nothing by itself.

mod args;
mod attest;
mod client;
mod documents;
mod error;
mod hold;
mod home;
mod say;
mod send;

use std::io::Read;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use transport::protocol::{Ask, PublicKey, Reply, SessionId, Text};
use transport::{Credentials, Invitation, Pin};

use self::args::{Adopting, Args, Command, Transport, Wanted};
use self::client::Client;
use self::error::{Exit, VendorError};
use self::hold::Held;
use self::home::Home;
use self::say::Say;

/// Longest code read from standard input.
const CODE_BYTES_MAX: u64 = 256;

fn main() -> ExitCode {
    let args = Args::parse();
    let say = Say::new(args.json, args.lang);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args, say)),
        Err(error) => Err(VendorError::Start(error)),
    };
    let exit = outcome.unwrap_or_else(|error| say.error(&error));
    ExitCode::from(exit as u8)
}

async fn run(args: Args, say: Say) -> Result<Exit, VendorError> {
    let home = Home::new(args.home)?;
    let transport = args.transport;
    match args.command {
        Command::Enrol { gateway, code } => enrol(say, &home, transport, &gateway, code).await,
        Command::Adopt(adopting) => adopt(say, &home, &adopting),
        Command::Request(wanted) => {
            let mut client = Client::connect(&home, transport).await?;
            request(say, &home, &mut client, wanted).await?;
            client.channel.finish().await;
            Ok(Exit::Ok)
        }
        Command::Connect { session, listen } => {
            let session = home.session(Some(session))?;
            let listener = hold::bind(listen).await?;
            let client = Client::connect(&home, transport).await?;
            let held = Held { home: &home, say, transport, session };
            tokio::select! {
                ended = held.until_over(client, &listener) => over(&held, ended?).await,
                _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
            }
        }
        Command::Open { wanted, listen } => {
            let listener = hold::bind(listen).await?;
            let mut client = Client::connect(&home, transport).await?;
            let session = request(say, &home, &mut client, wanted).await?;
            let held = Held { home: &home, say, transport, session };
            tokio::select! {
                ended = held.until_over(client, &listener) => over(&held, ended?).await,
                _ = tokio::signal::ctrl_c() => end(say, &home, transport, &held.session).await,
            }
        }
        Command::Send { file, session, attestation } => {
            let session = home.session(Some(session))?;
            let client = Client::connect(&home, transport).await?;
            let exit = send::send(say, &client, session, &file, attestation.as_deref()).await?;
            client.channel.finish().await;
            Ok(exit)
        }
        Command::Attest(asked) => attest::attest(say, &home, asked).await,
        Command::Status { session } => {
            let session = home.session(session)?;
            let mut client = Client::connect(&home, transport).await?;
            say.standing(&client.follow(&session, 0).await?);
            client.channel.finish().await;
            Ok(Exit::Ok)
        }
        Command::End { session } => {
            let session = home.session(session)?;
            end(say, &home, transport, &session).await
        }
        Command::Receipt { session } => {
            let session = home.session(session)?;
            let mut client = Client::connect(&home, transport).await?;
            receipt(say, &home, &mut client, &session).await?;
            client.channel.finish().await;
            Ok(Exit::Ok)
        }
        Command::Completions { shell } => Ok(documents::completions(shell)),
        Command::Man { directory } => documents::man(&directory),
    }
}

async fn enrol(
    say: Say,
    home: &Home,
    transport: Transport,
    gateway: &str,
    code: Option<String>,
) -> Result<Exit, VendorError> {
    if home.is_enrolled() {
        return Err(VendorError::EnrolledAlready(home.path().to_owned()));
    }
    let code = match code {
        Some(code) => code,
        None => read_code()?,
    };
    let invitation = Invitation::parse(&code)?;
    let key = home.key()?;
    let credentials = Credentials::invited(&invitation)?;
    let pin = Pin::Hash(invitation.authority());
    let dialled = client::reach(gateway, &credentials, &pin, transport).await?;
    let mut client = Client::begin(dialled.channel).await?;
    let chain_pem = match client.ask(&Ask::Enrol { key: PublicKey::of(key.spki())? }).await? {
        Reply::Enrolled { chain_pem } => chain_pem,
        _ => return Err(VendorError::Confused),
    };
    let id = key.key_id();
    let certified = key.with_chain(chain_pem.as_str())?;
    // Whoever signed must be whom the code named: from now on nothing else is believed.
    if certified.authority() != Some(&dialled.authority) {
        return Err(VendorError::Confused);
    }
    home.enrolled(gateway, &certified.chain_pem())?;
    client.channel.finish().await;
    let place = home.path().display();
    say.answer(
        &format!("enrolled; the key and its certificate are in `{place}`"),
        &format!("登録しました。鍵と証明書は `{place}` にあります"),
        &json!({ "enrolled": { "key": id, "home": home.path() } }),
    );
    Ok(Exit::Ok)
}

fn adopt(say: Say, home: &Home, adopting: &Adopting) -> Result<Exit, VendorError> {
    if home.is_enrolled() {
        return Err(VendorError::EnrolledAlready(home.path().to_owned()));
    }
    let Adopting { gateway, key, chain, clinic } = adopting;
    let id = home.adopt(gateway, (key, chain), clinic)?;
    let place = home.path().display();
    say.answer(
        &format!("taken up; the key and its certificate are in `{place}`"),
        &format!("取り込みました。鍵と証明書は `{place}` にあります"),
        &json!({ "adopted": { "key": id, "home": home.path() } }),
    );
    Ok(Exit::Ok)
}

fn read_code() -> Result<String, VendorError> {
    let mut code = String::new();
    let read = std::io::stdin().take(CODE_BYTES_MAX).read_to_string(&mut code);
    read.map_err(error::file("read", std::path::Path::new("standard input")))?;
    Ok(code)
}

async fn request(
    say: Say,
    home: &Home,
    client: &mut Client,
    wanted: Wanted,
) -> Result<SessionId, VendorError> {
    let Wanted { target, purpose, duration } = wanted;
    let (target, purpose) = (Text::try_from(target)?, Text::try_from(purpose)?);
    let ask = Ask::Request { target, purpose, duration_s: duration.seconds };
    let (session, digest) = match client.ask(&ask).await? {
        Reply::Requested { session, digest } => (session, digest),
        _ => return Err(VendorError::Confused),
    };
    home.remember(&session)?;
    say.answer(
        &format!("{session}: asked for; the clinic sees the digest {digest}"),
        &format!("{session}: 申請しました。クリニックに表示されるダイジェスト: {digest}"),
        &json!({ "requested": { "session": session, "digest": digest } }),
    );
    Ok(session)
}

/// What is left to do once a session is over.
async fn over(held: &Held<'_>, ended: (Client, transport::protocol::Standing)) -> Result<Exit, VendorError> {
    let (mut client, standing) = ended;
    let why = standing.why.clone().unwrap_or_default();
    if standing.state == transport::protocol::State::Denied {
        return Ok(Exit::Refused);
    }
    receipt(held.say, held.home, &mut client, &held.session).await?;
    client.channel.finish().await;
    Err(VendorError::Over(why))
}

async fn end(say: Say, home: &Home, transport: Transport, session: &SessionId) -> Result<Exit, VendorError> {
    let mut client = Client::connect(home, transport).await?;
    client.end(session).await?;
    let mut standing = client.follow(session, 0).await?;
    // Core takes the grant away first; that it is over comes a moment later.
    for _ in 0..3 {
        if standing.state.is_over() {
            break;
        }
        standing = client.follow(session, standing.revision).await?;
    }
    say.standing(&standing);
    receipt(say, home, &mut client, session).await?;
    client.channel.finish().await;
    Ok(Exit::Ok)
}

async fn receipt(say: Say, home: &Home, client: &mut Client, session: &SessionId) -> Result<(), VendorError> {
    let (signed, receipt) = client.receipt(home, session).await?;
    let path = home.keep(session, &signed)?;
    let (count, sent, received) = (receipt.connections, receipt.sent_bytes, receipt.received_bytes);
    let place = path.display();
    say.answer(
        &format!("{session}: receipt checked, in `{place}`: {count} connections, {sent} bytes there, {received} back"),
        &format!("{session}: 受領書を検証し `{place}` に保存しました: 接続 {count} 件、送信 {sent} バイト、受信 {received} バイト"),
        &json!({ "receipt": receipt }),
    );
    Ok(())
}
