//! Every combination of what a decision depends on, held against the rules. Each rule says when a decision is taken and
//! when it is not, so that together they leave no choice.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::too_many_lines,
    clippy::unchecked_time_subtraction,
    reason = "a test that panics has failed, and the rules are one list"
)]

mod cases;

use super::*;
use crate::failover::Requester;
use crate::retry::Backoff;
use cases::*;
use std::path::PathBuf;

#[test]
fn every_decision_is_the_one_that_the_rules_leave() {
    let cases = for_every_case(|case, decision| {
        let Situation { must_leave, request, mode, now, .. } = case.situation;
        let settled = case.is_settled();
        let is = |ending| decision == Decision::End(ending);
        let rule = |holds: bool, words: &str| assert!(holds, "{words}: {decision:?} of {case:#?}");

        rule(must_leave.is_none_or(is), "whoever must leave leaves");
        for leave in [Ending::Quit, Ending::ServerGone] {
            rule(is(leave) == (must_leave == Some(leave)), "nobody else leaves");
        }
        let restored = must_leave.is_none() && case.finds(&[Finding::Restored]);
        rule(is(Ending::Restored) == restored, "0 says that the file is there");
        let stays = must_leave.is_none() && !restored && case.is_segment();
        let fast = matches!(request, Some(Request::Fast(_)));
        rule(is(Ending::Fast) == (stays && fast), "fast failover waits for nothing");
        rule(
            is(Ending::Refused) == (stays && settled && !fast),
            "what was refused once is refused again, and nothing below it",
        );
        let pause = case.copies.1 == Limit::Before;
        rule(
            (decision == Decision::Look) == (!settled && case.finds(&[Finding::Unknown]) && !pause),
            "it looks when it knows nothing and no pause is on",
        );
        rule(
            (decision == Decision::Restore) == (!settled && case.finds(&[Finding::Ready])),
            "what is ready is restored",
        );
        rule(
            (decision == Decision::RestorePart) == (!settled && case.takes_part()),
            "what ends early is restored only where nothing better is to come",
        );
        rule(
            is(Ending::Impossible)
                == (!settled && case.is_segment() && case.finds(&[Finding::Impossible])),
            "nobody waits for what can never be",
        );
        rule(
            is(Ending::NotRestored)
                == (!settled && case.finds(&[Finding::Failed]) && case.copies.0 > RETRIES),
            "a copy that fails is tried again, so often and no more",
        );
        rule(
            is(Ending::TooLong)
                == (!settled
                    && case.is_segment()
                    && mode.on_error == OnError::Promote
                    && case.finds(&[TOO_LONG])),
            "only those who ask for it have recovery ended by a segment that is too long",
        );
        rule(
            is(Ending::NoArchive)
                == (!settled
                    && case.finds(&[Finding::NoArchive])
                    && request.is_none()
                    && case.situation.changes_at == [None, None]),
            "without an archive location only a failover goes on",
        );
        let may_end = case.is_missing() && !case.takes_part();
        let smart_ends = !settled && case.is_segment() && case.is_smart() && may_end;
        let needs_mark = case.is_unavailable() && matches!(request, Some(Request::Smart(_)));
        for leave_mark in [false, true] {
            rule(
                is(Ending::Smart { leave_mark })
                    == (smart_ends && !case.smart_waits() && leave_mark == needs_mark),
                "a smart failover ends when nothing more is ready",
            );
        }
        let one_look = !settled && mode.looks_once && request.is_none() && may_end;
        let is_absent = case.is_absent();
        rule(
            is(Ending::LookedOnce)
                == (one_look && case.is_segment() && (is_absent || !mode.is_plain)),
            "one look is enough for those who ask for one",
        );
        let impossible = case.finds(&[Finding::Impossible]) && !settled && !case.is_segment();
        let not_yet = one_look && !is_absent || impossible && request.is_none() && mode.looks_once;
        rule(
            is(Ending::NotYet) == (mode.is_plain && not_yet),
            "outside standby mode, what may come later is not the end of WAL",
        );
        let enough = case.must_wait() && case.has_waited_enough();
        rule(
            is(Ending::WaitedEnough) == (case.is_segment() && enough),
            "the maximum wait time counts for whatever is waited for",
        );
        rule(
            is(Ending::Reread) == (case.is_segment() && !settled && case.is_reread()),
            "a server in standby mode goes on with a later timeline",
        );
        let answer = !settled && !case.is_segment() && is_absent;
        rule(is(Ending::Absent) == answer, "the archive answers, and that is an answer");
        let asked = request.is_some() || mode.looks_once && !mode.is_plain;
        let one_look = mode.looks_once && mode.is_plain && request.is_none();
        let given_up = !settled
            && !case.is_segment()
            && (case.is_missing() && !answer && asked
                || case.finds(&[Finding::Impossible])
                    && (asked || case.has_waited_enough() && !one_look)
                || enough);
        rule(
            is(Ending::Unanswered) == given_up,
            "only a failover or a limit makes \"absent\" of an archive that does not answer",
        );
        if let Decision::Wait(until) = decision {
            let withdrawn = case.finds(&[Finding::Withdrawn]);
            rule(withdrawn == (until == now), "only what was withdrawn is looked at again at once");
            let limits = [case.max_wait, case.copies.1, case.looks.1, case.grace];
            let settled_at = match case.situation.finding {
                Finding::EndsEarly { settled_at: at, .. } | Finding::Partial { due_at: at }
                    if at > now =>
                {
                    Some(at)
                }
                _ => None,
            };
            let soon = if limits.contains(&Limit::Before) {
                MOMENT
            } else if case.situation.changes_at[1].is_some_and(|change| change > now) {
                2 * MOMENT
            } else {
                settled_at.map_or(SLEEP, |settled_at| settled_at - now)
            };
            rule(withdrawn || until == now + soon, "it wakes when the first limit is reached");
        }
    });
    assert!(cases > 1_000_000, "{cases}");
}

#[test]
fn recovery_ends_only_because_somebody_asked() {
    use crate::outcome::Outcome;
    for_every_case(|case, decision| {
        let Decision::End(ending) = decision else { return };
        let Situation { request, mode, finding, .. } = case.situation;
        let promotes = match Outcome::of_ending(ending, mode.on_error) {
            Outcome::NotAvailable | Outcome::ClassicNoArchive | Outcome::ClassicTooLong => true,
            Outcome::Warning | Outcome::Critical | Outcome::Unknown => {
                panic!("{ending:?} is no answer to --status")
            }
            Outcome::Done
            | Outcome::NotPruned
            | Outcome::NotRestored
            | Outcome::Unusable
            | Outcome::Terminated
            | Outcome::Interrupted => false,
        };
        let is_answer = match finding {
            Finding::Absent => !case.is_segment() || mode.looks_once,
            Finding::Superseded | Finding::LeftBehind => {
                !case.is_segment() || mode.looks_once || !mode.is_plain
            }
            Finding::Impossible => true,
            _ => mode.looks_once && !mode.is_plain,
        };
        let is_meant = request.is_some()
            || case.has_waited_enough()
            || is_answer
            || mode.on_error == OnError::Promote;
        assert!(!promotes || is_meant, "{decision:?} of {case:#?}");
    });
}

#[test]
fn limits_are_used_up_by_what_they_are_for() {
    let start = Instant::now();
    let requester = || Requester::PromoteFile(PathBuf::from("promote"));
    let kinds = [Request::Smart(requester()), Request::SmartBefore(POSITION, requester())];
    for finding in findings() {
        let requests = kinds.iter().map(Some).chain([None]);
        for request in requests {
            let mut clocks = Clocks {
                started: start,
                sleep_time: SLEEP,
                max_wait_time: None,
                copies: Backoff::new(SLEEP, RETRIES),
                looks: Backoff::new(SLEEP, RETRIES),
                rejected_since: None,
                server_has_it: false,
            };
            clocks.record(finding, request, start);
            let (is_unavailable, is_rejected) = (
                matches!(finding, Finding::Unavailable | Finding::NoArchive),
                matches!(finding, Finding::Rejected(_)),
            );
            let looks = u32::from(is_unavailable && request.is_some());
            assert_eq!(clocks.looks.failures(), looks, "{finding:?} {request:?}");
            let copies = u32::from(finding == Finding::Failed);
            assert_eq!(clocks.failed_copies(), copies, "{finding:?} {request:?}");
            let since = (is_rejected && request.is_some()).then_some(start);
            assert_eq!(clocks.rejected_since, since, "{finding:?} {request:?}");
            // A look that is not due yet does not count, and the grace begins once.
            clocks.record(finding, request, start + MOMENT);
            assert_eq!(clocks.looks.failures(), looks, "{finding:?} {request:?}");
            assert_eq!(clocks.rejected_since, since, "{finding:?} {request:?}");
            clocks.record(finding, request, start + SLEEP);
            assert_eq!(clocks.looks.failures(), 2 * looks, "{finding:?} {request:?}");
        }
    }
}

#[test]
fn a_server_that_has_the_segment_waits_for_more_of_it_only_for_a_moment() {
    let started = Instant::now();
    let plain =
        Mode { looks_once: false, is_plain: false, requires_file: false, on_error: OnError::Hold };
    let decide_at = |server_has_it: bool, finding: Finding, request: Option<&Request>, now| {
        let clocks = Clocks {
            started,
            sleep_time: Duration::from_secs(60),
            max_wait_time: None,
            copies: Backoff::new(SLEEP, RETRIES),
            looks: Backoff::new(SLEEP, RETRIES),
            rejected_since: None,
            server_has_it,
        };
        decide(&Situation {
            requested: Requested::Segment(POSITION),
            mode: plain,
            must_leave: None,
            request,
            finding,
            clocks: &clocks,
            now,
            changes_at: [None; 2],
        })
    };
    let later = started + Duration::from_secs(3600);
    let partial = Finding::Partial { due_at: later + SLEEP };
    assert_eq!(decide_at(false, Finding::LeftBehind, None, started), Decision::End(Ending::Reread));
    for (finding, limit) in
        [(Finding::Absent, REREAD), (partial, REREAD), (Finding::Unavailable, REREAD_IN_TROUBLE)]
    {
        let end = started + limit;
        assert_eq!(decide_at(true, finding, None, started), Decision::Wait(end));
        assert_eq!(decide_at(true, finding, None, end), Decision::End(Ending::Reread));
        assert!(matches!(decide_at(false, finding, None, later), Decision::Wait(_)));
    }
    // A failover has limits of its own.
    let smart = Request::Smart(Requester::PromoteFile(PathBuf::from("promote")));
    let decision = decide_at(true, Finding::Unavailable, Some(&smart), later);
    assert!(matches!(decision, Decision::Wait(_)), "{decision:?}");
    // What precedes the mark of a failover it has replayed.
    let next = Position { segment: POSITION.segment + 1, ..POSITION };
    let decided = Request::SmartBefore(next, Requester::PromoteFile(PathBuf::from("promote")));
    let decide = |has_it| decide_at(has_it, Finding::Unavailable, Some(&decided), started);
    assert_eq!(decide(true), Decision::End(Ending::Smart { leave_mark: false }));
    assert!(matches!(decide(false), Decision::Wait(_)), "{:?}", decide(false));
}
