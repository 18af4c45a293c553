//! Every fault a store can have, at every call there is: the recording arrives whole, once, and only then its journal goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use recordings::verify::{Form, Standing};
use recordings::{Compression, Store, Stored};

use crate::flaky::{Call, Fault, Flaky};
use crate::kept::Kept;
use crate::world::{Book, World, eventually, header, ms, say, upload_until, uploader};

/// A session that was recorded, and what its cast is stored as.
#[derive(Clone, Copy)]
struct Spoken {
    records: u64,
    width: usize,
    compression: Compression,
}

/// One put a cast.
const SMALL: Spoken = Spoken { records: 50, width: 80, compression: Compression::Zstd };
/// Two parts, of which the first is full.
const LARGE: Spoken = Spoken { records: 9, width: 1_000_000, compression: Compression::None };

impl Spoken {
    async fn record(self, world: &World) -> recordings::Spool {
        let spool = world.spool();
        let mut recorder = spool.start(header("s1")).await.unwrap();
        for n in 0..self.records {
            let bytes: Vec<u8> = (0..self.width).map(|i| b'a' + ((i as u64 * n) % 23) as u8).collect();
            say(&mut recorder, ms(n), &bytes).await;
        }
        recorder.finish(ms(self.records), "exit", None).await.unwrap();
        spool
    }

    /// Uploads it to `store` until it is there and the spool empty.
    async fn arrives(self, world: &World, store: Store) -> Stored {
        let spool = self.record(world).await;
        let book = Arc::new(Book::strict(world.spool_dir()));
        let stored = upload_until(uploader(&spool, store, &book, self.compression), async {
            let stored = book.stored("s1").await;
            world.spool_is_empty().await;
            stored
        })
        .await;
        book.is_in_order("s1");
        stored
    }

    async fn survives(self, call: Call, faults: &[Fault]) {
        let wanted = self.arrives_undisturbed().await;
        for fault in faults {
            for at in 0.. {
                let world = World::new();
                let (store, left) = Flaky::wrap(&world.store(), call, *fault, at);
                let stored = self.arrives(&world, store).await;
                is_whole(&world, &stored, self.compression);
                assert_eq!(stored, wanted, "{call:?} {fault:?} at {at}");
                if left.load(Ordering::SeqCst) > 0 {
                    assert!(at >= 1, "there was no {call:?}");
                    break;
                }
            }
        }
    }

    async fn arrives_undisturbed(self) -> Stored {
        let world = World::new();
        self.arrives(&world, world.store()).await
    }
}

/// Sees that the store holds the recording, once and nothing else, and that it is what was sealed.
pub(crate) fn is_whole(world: &World, stored: &Stored, compression: Compression) {
    let (stem, _) = stored.key.split_once(".cast").unwrap();
    let mut keys = vec![stored.key.clone(), format!("{stem}.index.json"), format!("{stem}.seal")];
    keys.sort();
    assert_eq!(world.stored_keys(), keys);
    let kept = Kept::read(world, &stored.key, compression);
    let form = if compression == Compression::Zstd { Form::Stored } else { Form::Plain };
    let verdict = kept.verify(form, kept.cast(form));
    assert_eq!(verdict.standing(), Standing::Whole, "{:?}", verdict.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_fault_of_any_put_is_survived() {
    let faults = [Fault::Fail, Fault::DoThenFail, Fault::Hang, Fault::Alter, Fault::Truncate];
    SMALL.survives(Call::Put, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_fault_of_any_reading_back_is_survived() {
    let faults = [Fault::Fail, Fault::Hang, Fault::Alter, Fault::Truncate, Fault::Stale];
    SMALL.survives(Call::Get, &faults).await;
    SMALL.survives(Call::Body, &[Fault::Fail, Fault::Hang, Fault::Truncate]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_fault_of_any_part_is_survived() {
    let faults = [Fault::Fail, Fault::DoThenFail, Fault::Hang, Fault::Alter, Fault::Truncate];
    LARGE.survives(Call::Part, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_fault_of_beginning_and_completing_an_upload_in_parts_is_survived() {
    for call in [Call::Begin, Call::Complete] {
        LARGE.survives(call, &[Fault::Fail, Fault::DoThenFail, Fault::Hang]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_for_ever_takes_no_more_than_its_share_and_is_asked_again() {
    let world = World::new();
    let spool = SMALL.record(&world).await;
    let (hung, left) = Flaky::wrap(&world.store(), Call::Put, Fault::Hang, 0);
    let book = Arc::new(Book::default());
    upload_until(uploader(&spool, hung, &book, Compression::Zstd), async {
        eventually(|| (left.load(Ordering::SeqCst) == 0).then_some(())).await;
        let told = |state: &_| matches!(state, recordings::RecordingState::Uploading { reason: Some(_), .. });
        let told = book.state("s1", told).await;
        assert!(format!("{told:?}").contains("no answer within 1s"), "{told:?}");
    })
    .await;
}
