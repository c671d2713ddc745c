//! Every combination of what a decision depends on, and each in the words of the rules.

use std::path::PathBuf;

use super::super::*;
use crate::failover::Requester;
use crate::retry::Backoff;
use crate::signals::FailoverSignal;
use crate::wal::lsn::Lsn;

pub const SLEEP: Duration = Duration::from_secs(5);
pub const MOMENT: Duration = Duration::from_millis(1);
pub const RETRIES: u32 = 2;
pub const POSITION: Position = Position { log: 1, segment: 7 };

/// How far something that ends has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    None,
    Before,
    At,
    After,
}

pub const LIMITS: [Limit; 4] = [Limit::None, Limit::Before, Limit::At, Limit::After];

/// One combination, in the words of the rules.
#[derive(Debug)]
pub struct Case<'a> {
    pub situation: Situation<'a>,
    pub max_wait: Limit,
    pub copies: (u32, Limit),
    pub looks: (u32, Limit),
    pub grace: Limit,
}

pub fn requests() -> Vec<Option<Request>> {
    let requesters = [
        Requester::Signal(FailoverSignal::Usr1),
        Requester::Signal(FailoverSignal::Int),
        Requester::TriggerFile(PathBuf::from("trigger"), "postgres".to_owned()),
        Requester::PromoteFile(PathBuf::from("promote")),
    ];
    let positions = [6, 7, 8].map(|segment| Position { log: 1, segment });
    let by_all = requesters.iter().flat_map(|by| {
        let before = positions.map(|first| Request::SmartBefore(first, by.clone()));
        [Request::Fast(by.clone()), Request::Smart(by.clone())].into_iter().chain(before)
    });
    [None].into_iter().chain(by_all.map(Some)).collect()
}

/// A finding for each way in which a segment may be there in part.
pub fn early_ends(now: Instant) -> Vec<Finding> {
    let times = [now + 3 * MOMENT, now, now - MOMENT];
    let ends = |settled_at| [false, true].map(|is_last| Finding::EndsEarly { settled_at, is_last });
    let parts = times.map(|due_at| Finding::Partial { due_at });
    times.into_iter().flat_map(ends).chain(parts).collect()
}

pub fn findings() -> Vec<Finding> {
    let flaws = [
        Flaw::NoHeader { found: 0 },
        Flaw::Magic { found: 0 },
        Flaw::ShortHeader { found: 0 },
        Flaw::SegmentSize { found: 0 },
        Flaw::BlockSize { found: 0 },
        Flaw::Lsn { found: Lsn(0), expected: None },
        Flaw::Timeline { found: 2, expected: 1 },
        Flaw::SystemIdentifier { found: 1, expected: 2 },
        Flaw::TooShort { found: 0, expected: 1 },
        Flaw::TooLong { found: 2, expected: 1 },
    ];
    let reasons =
        [Reason::NotRegular, Reason::HalfHistory, Reason::OpenForWriting, Reason::Changed];
    let rejected = flaws.map(Reason::Flaw).into_iter().chain(reasons).map(Finding::Rejected);
    let others = [
        Finding::Unknown,
        Finding::Ready,
        Finding::Absent,
        Finding::Superseded,
        Finding::LeftBehind,
        Finding::Impossible,
        Finding::Unavailable,
        Finding::NoArchive,
        Finding::Failed,
        Finding::Withdrawn,
        Finding::Restored,
    ];
    others.into_iter().chain(rejected).collect()
}

pub fn modes() -> Vec<Mode> {
    let both = [false, true];
    let mut modes = Vec::new();
    for (looks_once, is_plain) in both.iter().flat_map(|once| both.map(|plain| (*once, plain))) {
        for (requires_file, on_error) in [(false, OnError::Hold), (true, OnError::Promote)] {
            modes.push(Mode { looks_once, is_plain, requires_file, on_error });
        }
        let on_error = if is_plain { OnError::Promote } else { OnError::Hold };
        modes.push(Mode { looks_once, is_plain, requires_file: !is_plain, on_error });
    }
    modes
}

/// The moment at which a limit is as far as that, at `now`.
pub fn end(limit: Limit, now: Instant) -> Option<Instant> {
    match limit {
        Limit::None => None,
        Limit::Before => Some(now + MOMENT),
        Limit::At => Some(now),
        Limit::After => Some(now - MOMENT),
    }
}

/// A backoff with so many failures, whose pause is as far as that.
pub fn backoff(failures: u32, pause: Limit, now: Instant) -> Backoff {
    let mut backoff = Backoff::new(SLEEP, RETRIES);
    for failure in 1..=failures {
        let due = end(pause, now).unwrap();
        backoff.record_failure(due - SLEEP * failure);
    }
    backoff
}

/// Failures and pauses that are worth a try: none, some, as many as there are retries, one more.
pub fn failures() -> [(u32, Limit); 6] {
    [
        (0, Limit::None),
        (1, Limit::Before),
        (1, Limit::After),
        (RETRIES, Limit::At),
        (RETRIES + 1, Limit::Before),
        (RETRIES + 1, Limit::At),
    ]
}

pub fn for_every_case(mut check: impl FnMut(&Case, Decision)) -> usize {
    let now = Instant::now() + Duration::from_secs(3600);
    let (requests, modes, failures) = (requests(), modes(), failures());
    let findings = [findings(), early_ends(now)].concat();
    let mut count = 0;
    let mut clocks = Vec::new();
    for max_wait in LIMITS {
        for copies in &failures {
            for looks in &failures {
                for grace in LIMITS {
                    let max_wait_time = Duration::from_secs(60);
                    let value = Clocks {
                        started: end(max_wait, now).unwrap_or(now) - max_wait_time,
                        sleep_time: SLEEP,
                        max_wait_time: (max_wait != Limit::None).then_some(max_wait_time),
                        copies: backoff(copies.0, copies.1, now),
                        looks: backoff(looks.0, looks.1, now),
                        rejected_since: end(grace, now).map(|end| end - SLEEP),
                        server_has_it: false,
                    };
                    clocks.push((max_wait, *copies, *looks, grace, value));
                }
            }
        }
    }
    for (max_wait, copies, looks, grace, clocks) in &clocks {
        for request in &requests {
            for finding in &findings {
                for (number, mode) in modes.iter().enumerate() {
                    for requested in [Requested::Segment(POSITION), Requested::Auxiliary] {
                        // What is independent of the rest goes through its values in turn.
                        let turn = count % 9;
                        let must_leave = match turn {
                            3 => Some(Ending::Quit),
                            6 => Some(Ending::ServerGone),
                            _ => None,
                        };
                        let change = [None, Some(now + 2 * MOMENT), Some(now - MOMENT)];
                        let change = change[(count / 9 + number) % 3];
                        let situation = Situation {
                            requested,
                            mode: *mode,
                            must_leave,
                            request: request.as_ref(),
                            finding: *finding,
                            clocks,
                            now,
                            changes_at: [None, change],
                        };
                        let decision = decide(&situation);
                        let (max_wait, copies, looks, grace) = (*max_wait, *copies, *looks, *grace);
                        let case = Case { situation, max_wait, copies, looks, grace };
                        check(&case, decision);
                        count += 1;
                    }
                }
            }
        }
    }
    count
}

impl Case<'_> {
    pub fn is_segment(&self) -> bool {
        self.situation.requested == Requested::Segment(POSITION)
    }

    pub fn finds(&self, findings: &[Finding]) -> bool {
        findings.contains(&self.situation.finding)
    }

    pub fn is_rejected(&self) -> bool {
        matches!(self.situation.finding, Finding::Rejected(_))
    }

    pub fn ends_early(&self) -> bool {
        matches!(self.situation.finding, Finding::EndsEarly { .. })
    }

    pub fn is_partial(&self) -> bool {
        matches!(self.situation.finding, Finding::Partial { .. })
    }

    /// The segment is handed over although it ends early.
    pub fn takes_part(&self) -> bool {
        let now = self.situation.now;
        let asked = self.situation.request.is_some();
        let (settled_at, is_last) = match self.situation.finding {
            Finding::EndsEarly { settled_at, is_last } => (settled_at, is_last),
            Finding::Partial { due_at } => return self.is_segment() && (asked || due_at <= now),
            _ => return false,
        };
        let Mode { looks_once, is_plain, .. } = self.situation.mode;
        self.is_segment()
            && match self.situation.request {
                Some(_) => settled_at <= self.situation.now,
                None => looks_once && is_plain && is_last,
            }
    }

    pub fn is_unavailable(&self) -> bool {
        self.finds(&[Finding::Unavailable, Finding::NoArchive])
    }

    pub fn is_absent(&self) -> bool {
        self.finds(&[Finding::Absent]) || self.is_passed_by()
    }

    /// There is a later timeline.
    pub fn is_passed_by(&self) -> bool {
        self.finds(&[Finding::Superseded, Finding::LeftBehind])
    }

    /// A server in standby mode goes on with a later timeline.
    pub fn is_reread(&self) -> bool {
        let Situation { mode, request, .. } = self.situation;
        self.is_passed_by()
            && !mode.is_plain
            && !mode.looks_once
            && request.is_none()
            && !self.has_waited_enough()
    }

    pub fn has_waited_enough(&self) -> bool {
        matches!(self.max_wait, Limit::At | Limit::After)
    }

    /// Settled before anything is looked for: leaving, a file in place, a fast failover and what is left of one.
    pub fn is_settled(&self) -> bool {
        let refused = match self.situation.request {
            Some(Request::Fast(_)) => true,
            Some(Request::SmartBefore(first, _)) => *first <= POSITION,
            _ => false,
        };
        self.situation.must_leave.is_some()
            || self.finds(&[Finding::Restored])
            || self.is_segment() && refused
    }

    pub fn is_smart(&self) -> bool {
        matches!(self.situation.request, Some(Request::Smart(_) | Request::SmartBefore(..)))
    }

    /// Nothing is known to be ready, nothing has failed on our side, and nothing can never be.
    pub fn is_missing(&self) -> bool {
        let is_no_archive = self.finds(&[Finding::NoArchive])
            && self.situation.request.is_none()
            && self.situation.changes_at == [None, None];
        let is_classic = self.is_segment()
            && self.situation.mode.on_error == OnError::Promote
            && self.finds(&[TOO_LONG]);
        let in_part = self.ends_early() || self.is_partial();
        let is_missing = self.is_unavailable() || self.is_rejected() || in_part;
        (is_missing || self.is_absent()) && !is_no_archive && !is_classic
    }

    /// A smart failover gives the archive, or a writer, more time.
    pub fn smart_waits(&self) -> bool {
        let is_decided = matches!(self.situation.request, Some(Request::SmartBefore(..)));
        let waits_for_mount = self.situation.mode.requires_file && !is_decided;
        let looks_left = self.looks.0 <= RETRIES || waits_for_mount;
        let in_grace = matches!(self.grace, Limit::None | Limit::Before)
            && self.finds(&[
                Finding::Rejected(Reason::OpenForWriting),
                Finding::Rejected(Reason::Changed),
            ]);
        self.is_unavailable() && looks_left || in_grace || self.ends_early()
    }

    /// The only thing that can be done is to wait, unless that has lasted long enough.
    pub fn must_wait(&self) -> bool {
        if self.is_settled() {
            return false;
        }
        let copies = self.copies.0;
        let retries = self.finds(&[Finding::Failed]) && copies <= RETRIES
            || self.finds(&[Finding::Unknown]) && self.copies.1 == Limit::Before;
        let is_asked = match (self.is_segment(), self.situation.request) {
            (_, None) => self.situation.mode.looks_once,
            (true, Some(_)) => !self.smart_waits(),
            (false, Some(_)) => true,
        };
        let is_answer = !self.is_segment() && self.is_absent();
        let is_over = is_answer || self.takes_part() || self.is_reread();
        retries || self.is_missing() && !is_asked && !is_over
    }
}

pub const TOO_LONG: Finding =
    Finding::Rejected(Reason::Flaw(Flaw::TooLong { found: 2, expected: 1 }));
