//! Bytes over a channel: whole, in order, many streams at once, and broken when they are broken.

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::{Carrier, Channel, Credentials, GuestList, Guests, Listener, Wish, dial};

use crate::ground::{Authority, key_id, listed};

const MIB: usize = 1 << 20;

/// A channel and its other end.
async fn pair(carrier: Carrier) -> (Channel, Channel, Listener) {
    let clinic = Authority::new("clinic");
    let engineer: Credentials = clinic.engineer();
    let guests = GuestList::default();
    guests.replace(Guests {
        authority: Some(clinic.certificate.clone()),
        engineers: [(key_id(&engineer), listed("acme"))].into(),
        ..Guests::default()
    });
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &clinic.gateway(), &guests).unwrap();
    let address = listener.address();
    let pin = clinic.pin();
    let (dialled, arrival) =
        tokio::join!(dial(address, &engineer, &pin, Wish::Only(carrier)), listener.accept());
    let (dialled, arrival) = (dialled.unwrap(), arrival.unwrap());
    assert_eq!(dialled.channel.carrier(), carrier);
    assert_eq!(arrival.identity.key_id, key_id(&engineer));
    assert_eq!(dialled.authority, clinic.certificate);
    (dialled.channel, arrival.channel, listener)
}

async fn hundred_megabytes(carrier: Carrier) {
    let (here, there, _listener) = pair(carrier).await;
    let taking = tokio::spawn(async move {
        let mut stream = there.accept().await.unwrap();
        let (mut hash, mut buffer, mut count) = (Sha256::new(), vec![0; 64 << 10], 0);
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            count += read;
        }
        stream.write_all(&hash.finalize()).await.unwrap();
        stream.shutdown().await.unwrap();
        // The channel is held until the other side has read.
        drop(there.accept().await);
        count
    });
    let mut stream = here.open().await.unwrap();
    let (mut hash, mut word) = (Sha256::new(), 1u64);
    for _ in 0..100 {
        let mut block = Vec::with_capacity(MIB);
        while block.len() < MIB {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            block.extend_from_slice(&word.to_be_bytes());
        }
        hash.update(&block);
        stream.write_all(&block).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, hash.finalize().as_slice(), "another hash arrived");
    here.close();
    assert_eq!(taking.await.unwrap(), 100 * MIB);
}

#[tokio::test]
async fn a_hundred_megabytes_over_quic_arrive_whole() {
    hundred_megabytes(Carrier::Quic).await;
}

#[tokio::test]
async fn a_hundred_megabytes_over_tcp_arrive_whole() {
    hundred_megabytes(Carrier::Tcp).await;
}

#[tokio::test]
async fn many_streams_at_once_do_not_mix() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let (here, there, _listener) = pair(carrier).await;
        let echo = tokio::spawn(async move {
            while let Ok(stream) = there.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(stream);
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    write.shutdown().await.unwrap();
                });
            }
        });
        let mut tasks = Vec::new();
        for number in 0..40u8 {
            let here = here.clone();
            tasks.push(tokio::spawn(async move {
                let stream = here.open().await.unwrap();
                let (mut read, mut write) = tokio::io::split(stream);
                let sent = vec![number; 200_000];
                let copy = sent.clone();
                let writing = tokio::spawn(async move {
                    write.write_all(&copy).await.unwrap();
                    write.shutdown().await.unwrap();
                    write
                });
                let mut back = Vec::new();
                read.read_to_end(&mut back).await.unwrap();
                drop(writing.await.unwrap());
                assert!(back == sent, "stream {number} over {carrier:?}");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        here.close();
        echo.await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_stream_ends_alone() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let (here, there, _listener) = pair(carrier).await;
        let mut broken = here.open().await.unwrap();
        broken.write_all(b"half of").await.unwrap();
        broken.flush().await.unwrap();
        let mut seen = there.accept().await.unwrap();
        let mut half = [0; 7];
        seen.read_exact(&mut half).await.unwrap();
        broken.reset();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), seen.read_to_end(&mut rest))
            .await
            .unwrap();
        // Over TCP a reset reads as the end: what must be whole says its length.
        assert!(ended.is_err() || carrier == Carrier::Tcp, "a reset reads as the end over {carrier:?}");
        assert!(rest.is_empty());
        let mut next = here.open().await.unwrap();
        next.write_all(b"x").await.unwrap();
        next.flush().await.unwrap();
        assert_eq!(there.accept().await.unwrap().read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn closing_ends_everything_on_both_sides() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let (here, there, _listener) = pair(carrier).await;
        let mut stream = here.open().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        let mut seen = there.accept().await.unwrap();
        assert_eq!(seen.read_u8().await.unwrap(), b'x');
        there.close();
        there.closed().await;
        here.closed().await;
        assert!(stream.read_u8().await.is_err());
        assert!(here.open().await.is_err());
        assert!(there.accept().await.is_err());
    }
}

/// A peer that opens streams without end and reads nothing gets no further than its share.
#[tokio::test]
async fn streams_that_nobody_takes_are_bounded() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let (here, there, _listener) = pair(carrier).await;
        let mut kept = Vec::new();
        let flood = async {
            for _ in 0..1000 {
                let Ok(mut stream) = here.open().await else { break };
                if stream.write_all(&[7; 1000]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                kept.push(stream);
            }
        };
        let ended = tokio::time::timeout(std::time::Duration::from_secs(3), flood).await;
        // QUIC holds the opener back; yamux ends a connection that opens more than was agreed.
        assert!(ended.is_err() || kept.len() < 1000, "{carrier:?} took {} streams", kept.len());
        drop(there);
    }
}
