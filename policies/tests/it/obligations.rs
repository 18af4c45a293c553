//! Obligations meet as a semilattice does.

use std::collections::BTreeSet;

use policies::Obligations;
use proptest::prelude::*;

fn obligations() -> impl Strategy<Value = Obligations> {
    let names =
        || proptest::collection::btree_set(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 0..3);
    let time = || proptest::option::of(1_u64..5);
    (time(), time(), proptest::option::of(1_i64..5), any::<(bool, bool)>(), names(), names()).prop_map(
        |(max_duration, idle_timeout, not_after, (record_input, read_only), notify, run_as)| Obligations {
            max_duration,
            idle_timeout,
            not_after,
            record_input,
            read_only,
            notify,
            run_as,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn meeting_is_commutative_associative_and_idempotent(a in obligations(), b in obligations(), c in obligations()) {
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
        prop_assert_eq!(&a.meet(&a), &a);
        prop_assert_eq!(&a.meet(&Obligations::default()), &a);
    }

    #[test]
    fn meeting_only_ever_tightens(a in obligations(), b in obligations()) {
        let both = a.meet(&b);
        let demands = |o: &Obligations| BTreeSet::from_iter(o.demands());
        prop_assert!(demands(&both).is_superset(&demands(&a)));
        prop_assert!(a.max_duration.is_none_or(|limit| both.max_duration.unwrap() <= limit));
        prop_assert!(a.idle_timeout.is_none_or(|limit| both.idle_timeout.unwrap() <= limit));
        prop_assert!(a.not_after.is_none_or(|end| both.not_after.unwrap() <= end));
        prop_assert!(both.notify.is_superset(&a.notify) && both.run_as.is_superset(&a.run_as));
    }
}
