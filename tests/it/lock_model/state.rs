//! What there is at one moment: files, contenders, operations under way. All ages are ticks, cut at the lease: beyond it nothing
//! depends on how old something is, so the number of states is finite although time is not bounded.

/// Contenders, at most.
pub const CONTENDERS: usize = 3;
/// Claims at most on one lock.
pub const CLAIM_DEPTH: u8 = 6;
/// Operations at most that go on without a client.
const ORPHANS: usize = 2;
/// Claims at most at one moment.
pub const CLAIMS: usize = 8;

/// What a file says: who wrote it. A contender draws a new one for each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u8);

impl Token {
    /// A file that no director wrote.
    pub const PERSON: Self = Self(0x80);
    /// A file that was created and has no content yet.
    pub const UNWRITTEN: Self = Self(0x81);
    /// Different tokens of one contender that may be around at one moment.
    pub const DRAWS: u8 = 8;

    pub fn new(owner: usize, draw: u8) -> Self {
        assert!(draw < Self::DRAWS, "more tokens of one contender at a time than the model has names for");
        Self(owner as u8 * Self::DRAWS + draw)
    }

    pub fn owner(self) -> Option<usize> {
        (self.0 < 0x80).then_some(usize::from(self.0 / Self::DRAWS))
    }

    fn renamed(self, names: &[Option<u8>; 32]) -> Self {
        match self.owner() {
            Some(_) => Self(names[usize::from(self.0)].expect("every token in sight has a new name")),
            None => self,
        }
    }
}

/// A lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct File {
    pub token: Token,
    pub age: u8,
}

/// A claim file beside a lock, empty: its name says which token is to go away, and the how manieth claim on it this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub path: u8,
    pub on: Token,
    pub number: u8,
    pub age: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Take,
    Refresh,
    Remove,
}

/// The step that an operation does next. Between two steps anything of the others may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Take: what is there?
    TakeLook,
    /// Take: temporary to the lock's name, exclusively.
    Link,
    /// Without hard links: the content into the lock just created.
    Fill,
    /// Take-over, removal: the claim's file, exclusively.
    Claim,
    /// There is a claim already: how old?
    ClaimLook,
    /// With the claim: is the lock still what it was?
    Check,
    /// Take-over: temporary over the lock.
    Rename,
    /// Take-over that took too long: the file is touched and left to expire.
    Late,
    /// The claims go.
    Unclaim,
    /// Take: whose is it now?
    Final,
    /// Removal: is it ours?
    RemoveLook,
    /// Removal of a young lock: unlink.
    Unlink,
    /// Removal under the claim: unlink.
    UnlinkClaimed,
    /// Refresh: is it ours, and not expired?
    RefreshLook,
    /// Refresh: touch.
    Touch,
    /// Refresh: is it still ours?
    Verify,
}

/// An operation on the host that stores the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op {
    pub kind: Kind,
    pub at: At,
    pub path: u8,
    pub token: Token,
    /// The lock that a take may replace.
    pub replaces: Option<Token>,
    /// Age of the temporary, and so of the lock that is made of it.
    pub born: u8,
    /// The claim that it has, or is about to create.
    pub number: u8,
    /// Age of its claim.
    pub claimed: u8,
    /// Ticks since the check on which the next step relies.
    pub pause: u8,
    /// The file is ours and does not count as taken.
    pub late: bool,
}

impl Op {
    pub fn new(kind: Kind, path: u8, token: Token, replaces: Option<Token>) -> Self {
        let at = match kind {
            Kind::Take => At::TakeLook,
            Kind::Refresh => At::RefreshLook,
            Kind::Remove => At::RemoveLook,
        };
        Self { kind, at, path, token, replaces, born: 0, number: 0, claimed: 0, pause: 0, late: false }
    }

    /// Whether the next step relies on what a step before it saw.
    pub fn relies_on_check(&self) -> bool {
        match self.at {
            At::Rename | At::Late | At::Unlink | At::UnlinkClaimed | At::Touch => true,
            At::Claim => self.number > 1,
            _ => false,
        }
    }

    /// Whether its token may still become that of the lock.
    fn may_put(&self) -> bool {
        !matches!(self.at, At::Unclaim | At::Late | At::Final)
    }

    /// Whether it can still change a file.
    fn matters(&self) -> bool {
        !matches!(self.at, At::Final | At::Verify)
    }

    /// The lock that is to be replaced or removed under a claim.
    pub fn target(&self) -> Option<Token> {
        if self.kind == Kind::Remove { Some(self.token) } else { self.replaces }
    }

    /// Whether the lock may still be made of its temporary.
    fn has_temporary(&self) -> bool {
        self.kind == Kind::Take
            && matches!(self.at, At::Link | At::Fill | At::Claim | At::ClaimLook | At::Check | At::Rename)
    }

    /// Whether the age of its claim still matters to it.
    fn has_claim(&self) -> bool {
        matches!(self.at, At::Check | At::Rename)
    }

    /// Without what does not matter from here on.
    pub fn settle(&mut self) {
        if !self.has_temporary() {
            self.born = 0;
        }
        if !self.has_claim() {
            self.claimed = 0;
        }
        if !matches!(
            self.at,
            At::Claim | At::ClaimLook | At::Check | At::Rename | At::UnlinkClaimed | At::Late | At::Unclaim
        ) {
            self.number = 0;
        }
    }

    fn tokens(&self) -> impl Iterator<Item = Token> + use<> {
        [Some(self.token), self.replaces].into_iter().flatten()
    }

    fn rename(&mut self, names: &[Option<u8>; 32]) {
        self.token = self.token.renamed(names);
        if let Some(token) = &mut self.replaces {
            *token = token.renamed(names);
        }
    }
}

/// How far a contender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Wants its turn, holds nothing.
    Waiting,
    Taking,
    /// Has its lock, not yet looked at its block again.
    Looking,
    /// Everything is taken and looked at, the action not yet started.
    Ready,
    /// The action runs.
    Acting,
    /// The lock counts as lost, the action has been told to end, for so many ticks.
    Fencing(u8),
    /// Gives its lock back; had its turn, or wants it still.
    Releasing {
        served: bool,
    },
    /// Had its turn.
    Served,
}

impl Phase {
    /// Whether the action may be at the data.
    pub fn acts(self) -> bool {
        matches!(self, Self::Acting | Self::Fencing(_))
    }
}

/// A director with one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    pub phase: Phase,
    pub token: Option<Token>,
    /// Ticks since the moment from which it counts its lease.
    pub fresh: u8,
    /// Ticks since it asked for the refresh under way.
    pub asked: u8,
    pub op: Option<Op>,
    /// Time has passed in what it is doing now.
    pub slow: bool,
}

impl Client {
    pub const WAITING: Self = Self { phase: Phase::Waiting, token: None, fresh: 0, asked: 0, op: None, slow: false };

    /// What can be compared without knowing who is who.
    fn shape(&self) -> impl Ord + use<> {
        let op = self.op.map(|op| (op.at, op.kind, op.born, op.claimed, op.number, op.pause, op.late));
        (self.phase, self.fresh, self.asked, op, self.token.is_some(), self.slow)
    }
}

/// The whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub paths: [Option<File>; 2],
    pub claims: [Option<Claim>; CLAIMS],
    pub clients: [Client; CONTENDERS],
    /// Operations whose client is gone.
    pub orphans: [Option<Op>; ORPHANS],
    /// Crashes of directors that may still happen.
    pub crashes: u8,
    /// Connections that may still be lost.
    pub cuts: u8,
    /// Operations and contenders that may still take longer than a tick.
    pub stalls: u8,
    /// Files that a person may still put in a lock's place.
    pub visits: u8,
}

impl State {
    pub fn claim(&self, path: u8, on: Token, number: u8) -> Option<&Claim> {
        self.claims.iter().flatten().find(|claim| (claim.path, claim.on, claim.number) == (path, on, number))
    }

    pub fn add_claim(&mut self, claim: Claim) {
        *self.claims.iter_mut().find(|c| c.is_none()).expect("more claims at a time than the model has room for") =
            Some(claim);
    }

    pub fn drop_claims(&mut self, path: u8, on: Token, numbers: std::ops::RangeInclusive<u8>) {
        let meant = |claim: &Claim| claim.path == path && claim.on == on && numbers.contains(&claim.number);
        self.claims.iter_mut().filter(|claim| claim.is_some_and(|claim| meant(&claim))).for_each(|claim| *claim = None);
    }

    pub fn holds(&self, path: u8, token: Token) -> Option<u8> {
        self.paths[usize::from(path)].filter(|file| file.token == token).map(|file| file.age)
    }

    /// The operation goes on without its client; one too many, or one that cannot change anything any more, ends.
    pub fn orphan(&mut self, op: Option<Op>) {
        if let Some(op) = op.filter(Op::matters)
            && let Some(slot) = self.orphans.iter_mut().find(|slot| slot.is_none())
        {
            *slot = Some(op);
        }
    }

    /// A token that nothing in sight carries.
    pub fn draw(&self, owner: usize) -> Token {
        let used = |token: Token| self.tokens().any(|other| other.0 == token.0);
        let draw = (0..Token::DRAWS).find(|&draw| !used(Token::new(owner, draw)));
        Token::new(owner, draw.unwrap_or(Token::DRAWS))
    }

    fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        let clients = self.clients.iter().filter_map(|client| client.token);
        let claims = self.claims.iter().flatten().map(|claim| claim.on);
        let all = clients.chain(self.ops().flat_map(Op::tokens)).chain(self.paths.iter().flatten().map(|f| f.token));
        all.chain(claims).filter(|token| token.owner().is_some())
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.clients.iter().filter_map(|client| client.op.as_ref()).chain(self.orphans.iter().flatten())
    }

    /// A tick takes from what may stall for each that is under way and had not yet stalled; `false` if there is no more.
    pub fn stall(&mut self) -> bool {
        for client in &mut self.clients {
            let under_way = client.op.is_some() || matches!(client.phase, Phase::Looking | Phase::Ready);
            if under_way && !client.slow {
                if self.stalls == 0 {
                    return false;
                }
                self.stalls -= 1;
                client.slow = true;
            }
        }
        true
    }

    pub fn ops_mut(&mut self) -> impl Iterator<Item = &mut Op> {
        self.clients.iter_mut().filter_map(|client| client.op.as_mut()).chain(self.orphans.iter_mut().flatten())
    }

    /// Everything a tick older.
    pub fn age(&mut self, lease: u8, fence: u8) {
        let older = |age: &mut u8| *age = (*age + 1).min(lease);
        self.paths.iter_mut().flatten().for_each(|file| older(&mut file.age));
        self.claims.iter_mut().flatten().for_each(|claim| older(&mut claim.age));
        for op in self.ops_mut() {
            if op.has_temporary() {
                older(&mut op.born);
            }
            if op.has_claim() {
                older(&mut op.claimed);
            }
            if op.relies_on_check() {
                older(&mut op.pause);
            }
        }
        let older = |age: &mut u8| *age = (*age + 1).min(fence);
        for client in &mut self.clients {
            if client.op.is_some_and(|op| op.kind == Kind::Refresh) {
                older(&mut client.asked);
            }
            match &mut client.phase {
                Phase::Taking | Phase::Looking | Phase::Ready | Phase::Acting => older(&mut client.fresh),
                Phase::Fencing(grace) => older(grace),
                Phase::Waiting | Phase::Releasing { .. } | Phase::Served => {}
            }
        }
    }

    /// The same moment under the names that all its likes share: what has no meaning any more dropped, lists sorted, tokens
    /// numbered by appearance, and contenders that want the same in a fixed order. With the new names of what there was.
    pub fn canonical(mut self, symmetric: bool, checks: bool) -> (Self, Names) {
        self.forget(checks);
        let mut order = [0, 1, 2];
        if symmetric {
            order.sort_by_key(|&n| self.clients[n].shape());
            self.clients = order.map(|n| self.clients[n]);
        }
        let mut place = [0; CONTENDERS];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new as u8);
        let tokens = self.rename(place);
        self.claims.sort_unstable();
        self.orphans.sort_unstable();
        (self, Names { place, tokens })
    }

    fn rename(&mut self, place: [u8; CONTENDERS]) -> [Option<u8>; 32] {
        let (mut names, mut next) = ([None; 32], [0; CONTENDERS]);
        for token in self.tokens() {
            let owner = token.owner().expect("only contenders' tokens are listed");
            names[usize::from(token.0)].get_or_insert_with(|| {
                next[owner] += 1;
                place[owner] * Token::DRAWS + next[owner] - 1
            });
        }
        self.paths.iter_mut().flatten().for_each(|file| file.token = file.token.renamed(&names));
        self.claims.iter_mut().flatten().for_each(|claim| claim.on = claim.on.renamed(&names));
        self.clients.iter_mut().filter_map(|c| c.token.as_mut()).for_each(|token| *token = token.renamed(&names));
        self.ops_mut().for_each(|op| op.rename(&names));
        names
    }

    /// Drops what makes no difference any more: operations that can only find that their lock has gone, and claims on such locks.
    fn forget(&mut self, checks: bool) {
        for n in 0..self.orphans.len() {
            if self.orphans[n].is_some_and(|op| checks && self.in_vain(&op)) {
                self.orphans[n] = None;
            }
        }
        for n in 0..self.clients.len() {
            if let Some(op) = self.clients[n].op.filter(|op| checks && self.in_vain(op)) {
                let at = if op.kind == Kind::Take { At::Final } else { At::RemoveLook };
                self.clients[n].op = Some(Op { at, ..Op::new(op.kind, op.path, op.token, None) });
            }
        }
        for n in 0..self.claims.len() {
            let idle = |claim: Claim| {
                !self.may_be_there(claim.path, claim.on) && !self.ops().any(|op| op.target() == Some(claim.on))
            };
            if self.claims[n].is_some_and(idle) {
                self.claims[n] = None;
            }
        }
    }

    /// Whether all that `op` can still do is about a lock that has gone for ever.
    fn in_vain(&self, op: &Op) -> bool {
        matches!(op.at, At::Claim | At::ClaimLook | At::Check | At::Unclaim)
            && op.target().is_some_and(|target| !self.may_be_there(op.path, target))
    }

    fn may_be_there(&self, path: u8, token: Token) -> bool {
        self.holds(path, token).is_some()
            || self.ops().any(|op| op.kind == Kind::Take && op.token == token && op.may_put())
    }
}

/// What became of the names of a state when it was made canonical.
pub struct Names {
    /// Of each contender its new place.
    pub place: [u8; CONTENDERS],
    tokens: [Option<u8>; 32],
}

impl Names {
    /// The new name, if it is still in sight.
    pub fn token(&self, token: Token) -> Option<Token> {
        match token.owner() {
            Some(_) => self.tokens[usize::from(token.0)].map(Token),
            None => Some(token),
        }
    }
}
