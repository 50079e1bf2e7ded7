//! Which address a pod gets: pure, the time is told.
//!
//! A pod gets the same host number in every range where it can. Numbers go round by a cursor that outlives restarts; a released one
//! goes to the end of the line and stays unused for [`QUARANTINE`], so that nobody who still has the old pod's address in mind
//! reaches a new one (`docs/datapath.md`, "Addresses are not reused in a hurry").

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use minipod_model::IpFamily;
use minipod_model::range::{NODE_NUMBER, nth};

/// How long a released address stays unused at least.
pub const QUARANTINE: Duration = Duration::from_secs(60);

/// Released numbers of a range that are remembered beyond their quarantine.
const MEMORY: usize = 8192;

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// No range at all.
    #[error("this node has no pod range; set `spec.podCIDRs` of its Node object")]
    NoRange,
    /// Two ranges of a family.
    #[error("this node has two pod ranges of one family, `{0}` and `{1}`; give one per family")]
    TwoRanges(IpNet, IpNet),
    /// Too small.
    #[error("node range `{0}` has no room for pods; start a new node with fewer bits for `--node-cidr-mask-ipv{family}`", family = IpFamily::of(.0.addr()).digit())]
    TooSmall(IpNet),
    /// Every address is taken.
    #[error(
        "node range `{range}` has no free address ({in_use} in use, {quarantined} released less than {seconds} s ago, {skipped} of Pod objects \
         that are not attached); delete pods, or make the node anew with a wider range: `minipod node reset --yes`, then \
         `minipod node start` with fewer bits for `--node-cidr-mask-ipv{family}`, and for `--cluster-cidr` where that is no wider",
        seconds = QUARANTINE.as_secs(), family = IpFamily::of(range.addr()).digit()
    )]
    Exhausted {
        /// the range
        range: IpNet,
        /// addresses of attached pods
        in_use: usize,
        /// addresses released a moment ago
        quarantined: usize,
        /// addresses that Pod objects hold
        skipped: usize,
    },
    /// A requested address that is not ours to give.
    #[error("requested address `{address}` is not in this node's ranges ({ranges}); ask for one that is, or for none")]
    OutOfRange {
        /// the address
        address: IpAddr,
        /// the ranges
        ranges: String,
    },
    /// A requested address that no pod can have.
    #[error(
        "requested address `{0}` is reserved in its range (network, broadcast or the node's own); ask for another, or for none"
    )]
    Reserved(IpAddr),
    /// A requested address that another pod has.
    #[error("requested address `{0}` is in use by another pod; ask for another, or for none")]
    InUse(IpAddr),
    /// A requested address that was released a moment ago.
    #[error(
        "requested address `{address}` was released a moment ago and can be given again in {seconds} s; try again then"
    )]
    Quarantined {
        /// the address
        address: IpAddr,
        /// from now
        seconds: u64,
    },
    /// Two requested addresses of a family.
    #[error("two addresses of one family were requested, `{0}` and `{1}`; a pod has one per family")]
    TwoRequested(IpAddr, IpAddr),
}

impl IpamError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::Quarantined { .. } | Self::InUse(_))
    }
}

/// The addresses of a node. Times are since boot.
#[derive(Debug, Clone)]
pub struct Ipam {
    pools: Vec<Pool>,
    cursor: u32,
}

/// Addresses that pods' objects hold although they are not attached here.
pub type Taken = BTreeSet<IpAddr>;

impl Ipam {
    /// The node's ranges, IPv4 first, and the number at which a former run left off.
    ///
    /// # Errors
    /// [`IpamError::NoRange`], [`IpamError::TwoRanges`], [`IpamError::TooSmall`]
    pub fn new(ranges: &[IpNet], cursor: u32) -> Result<Self, IpamError> {
        let mut pools: Vec<Pool> = Vec::new();
        for family in IpFamily::ALL {
            let mut of_family = ranges.iter().filter(|range| IpFamily::of(range.addr()) == family);
            match (of_family.next(), of_family.next()) {
                (Some(one), Some(two)) => return Err(IpamError::TwoRanges(*one, *two)),
                (Some(range), None) => pools.push(Pool::new(range.trunc())?),
                (None, _) => {}
            }
        }
        if pools.is_empty() { Err(IpamError::NoRange) } else { Ok(Self { pools, cursor }) }
    }

    /// The number after the last one given, to be kept for the next run.
    #[must_use]
    pub fn cursor(&self) -> u32 {
        self.cursor
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = IpNet> {
        self.pools.iter().map(|pool| pool.range)
    }

    /// Addresses in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.pools.iter().map(|pool| pool.in_use.len()).max().unwrap_or(0)
    }

    /// Takes note of addresses that pods have already. Those outside of the ranges are left alone: a range may have changed.
    pub fn adopt(&mut self, addresses: &[IpAddr]) {
        for (pool, number) in self.numbers(addresses) {
            self.pools[pool].take(number);
        }
    }

    /// One address per family. `taken` are those that objects hold.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`] with the numbers.
    pub fn allocate(&mut self, taken: &Taken, now: Duration) -> Result<Vec<IpAddr>, IpamError> {
        let all: Vec<usize> = (0..self.pools.len()).collect();
        self.choose(&all, taken, now).map(|chosen| self.take(&chosen))
    }

    /// The requested addresses, and one of every other family.
    ///
    /// # Errors
    /// The first request that cannot be honoured; nothing is taken then.
    pub fn allocate_requested(
        &mut self,
        requested: &[IpAddr],
        taken: &Taken,
        now: Duration,
    ) -> Result<Vec<IpAddr>, IpamError> {
        let mut chosen: BTreeMap<usize, u32> = BTreeMap::new();
        for &address in requested {
            let (index, number) = self.requested(address, now)?;
            if let Some(other) = chosen.insert(index, number) {
                return Err(IpamError::TwoRequested(self.pools[index].address(other), address));
            }
        }
        let rest: Vec<usize> = (0..self.pools.len()).filter(|index| !chosen.contains_key(index)).collect();
        if !rest.is_empty() {
            chosen.extend(self.choose(&rest, taken, now)?);
        }
        Ok(self.take(&chosen))
    }

    /// Gives addresses back; they stay unused for [`QUARANTINE`].
    pub fn release(&mut self, addresses: &[IpAddr], now: Duration) {
        for (pool, number) in self.numbers(addresses) {
            self.pools[pool].release(number, now);
        }
    }

    /// The addresses in quarantine with the time of their release, to be told to a successor by [`Ipam::release`].
    #[must_use]
    pub fn quarantined(&self, now: Duration) -> Vec<(IpAddr, Duration)> {
        let in_quarantine = |pool: &Pool| {
            let young = pool.line.iter().filter(|(_, at)| now.saturating_sub(*at) < QUARANTINE);
            young.map(|(number, at)| (pool.address(*number), *at)).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(in_quarantine).collect()
    }

    fn numbers(&self, addresses: &[IpAddr]) -> Vec<(usize, u32)> {
        let place = |address: &IpAddr| {
            self.pools.iter().enumerate().find_map(|(index, pool)| Some((index, pool.number(*address)?)))
        };
        addresses.iter().filter_map(place).collect()
    }

    fn requested(&self, address: IpAddr, now: Duration) -> Result<(usize, u32), IpamError> {
        let Some((index, pool)) = self.pools.iter().enumerate().find(|(_, pool)| pool.range.contains(&address)) else {
            let ranges = self.ranges().map(|range| range.to_string()).collect::<Vec<_>>().join(", ");
            return Err(IpamError::OutOfRange { address, ranges });
        };
        let number = pool.number(address).ok_or(IpamError::Reserved(address))?;
        if pool.in_use.contains(&number) {
            return Err(IpamError::InUse(address));
        }
        match pool.released_at(number).map(|at| QUARANTINE.saturating_sub(now.saturating_sub(at))) {
            Some(left) if !left.is_zero() => {
                Err(IpamError::Quarantined { address, seconds: left.as_secs().saturating_add(1) })
            }
            _ => Ok((index, number)),
        }
    }

    /// One number for all of `pools`, or one for each where no common one is free.
    fn choose(&self, pools: &[usize], taken: &Taken, now: Duration) -> Result<BTreeMap<usize, u32>, IpamError> {
        let together: Vec<&Pool> = pools.iter().map(|&index| &self.pools[index]).collect();
        if let Some(number) = pick(&together, self.cursor, taken, now) {
            return Ok(pools.iter().map(|&index| (index, number)).collect());
        }
        pools
            .iter()
            .map(|&index| {
                let pool = &self.pools[index];
                let number = pick(&[pool], self.cursor, taken, now);
                Ok((index, number.ok_or_else(|| pool.exhausted(taken, now))?))
            })
            .collect()
    }

    fn take(&mut self, chosen: &BTreeMap<usize, u32>) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(chosen.len());
        for (&index, &number) in chosen {
            self.pools[index].take(number);
            addresses.push(self.pools[index].address(number));
        }
        if let Some(number) = chosen.values().next() {
            self.cursor = number.saturating_add(1);
        }
        addresses
    }
}

/// A number that is free in all of `pools`: first one that was not given since the start, from the cursor on; then the one released
/// longest ago.
fn pick(pools: &[&Pool], cursor: u32, taken: &Taken, now: Duration) -> Option<u32> {
    let last = pools.iter().map(|pool| pool.last).min()?;
    let first = NODE_NUMBER + 1;
    let start = if (first..=last).contains(&cursor) { cursor } else { first };
    let free = |number: u32| pools.iter().all(|pool| pool.is_free(number, taken));
    let fresh = |number: &u32| free(*number) && pools.iter().all(|pool| !pool.in_line.contains_key(number));
    let aged = |number: u32| {
        pools.iter().all(|pool| pool.released_at(number).is_none_or(|at| now.saturating_sub(at) >= QUARANTINE))
    };
    (start..=last).chain(first..start).find(fresh).or_else(|| {
        let line = pools.iter().flat_map(|pool| pool.line.iter());
        let candidates = line.filter(|(number, _)| *number <= last && free(*number) && aged(*number));
        candidates.min_by_key(|(_, at)| *at).map(|(number, _)| *number)
    })
}

/// The numbers of one range.
#[derive(Debug, Clone)]
struct Pool {
    range: IpNet,
    /// the highest number that a pod may have
    last: u32,
    in_use: BTreeSet<u32>,
    /// released numbers, the longest ago first
    line: VecDeque<(u32, Duration)>,
    in_line: BTreeMap<u32, Duration>,
}

impl Pool {
    fn new(range: IpNet) -> Result<Self, IpamError> {
        let bits = range.max_prefix_len() - range.prefix_len();
        let all = 1_u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX);
        // The last address of an IPv4 range is its broadcast address; IPv6 has none.
        let beyond = if range.addr().is_ipv4() { 2 } else { 1 };
        let last = u32::try_from(all.saturating_sub(beyond)).unwrap_or(u32::MAX - 1);
        if last <= NODE_NUMBER {
            return Err(IpamError::TooSmall(range));
        }
        let (in_use, line, in_line) = (BTreeSet::new(), VecDeque::new(), BTreeMap::new());
        Ok(Self { range, last, in_use, line, in_line })
    }

    fn address(&self, number: u32) -> IpAddr {
        nth(self.range, number)
    }

    /// The number of an address that a pod may have.
    fn number(&self, address: IpAddr) -> Option<u32> {
        let distance = match (self.range.network(), address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(u32::from(address).checked_sub(u32::from(base))?),
            (IpAddr::V6(base), IpAddr::V6(address)) => u128::from(address).checked_sub(u128::from(base))?,
            _ => return None,
        };
        let number = u32::try_from(distance).ok()?;
        (NODE_NUMBER + 1..=self.last).contains(&number).then_some(number)
    }

    fn is_free(&self, number: u32, taken: &Taken) -> bool {
        !self.in_use.contains(&number) && (taken.is_empty() || !taken.contains(&self.address(number)))
    }

    fn released_at(&self, number: u32) -> Option<Duration> {
        self.in_line.get(&number).copied()
    }

    fn take(&mut self, number: u32) {
        self.in_use.insert(number);
        if self.in_line.remove(&number).is_some() {
            self.line.retain(|(other, _)| *other != number);
        }
    }

    fn release(&mut self, number: u32, now: Duration) {
        self.in_use.remove(&number);
        self.line.retain(|(other, _)| *other != number);
        self.line.push_back((number, now));
        self.in_line.insert(number, now);
        // Beyond the memory the cursor alone keeps the order.
        while self.line.len() > MEMORY {
            match self.line.front() {
                Some(&(oldest, at)) if now.saturating_sub(at) >= QUARANTINE => {
                    self.line.pop_front();
                    self.in_line.remove(&oldest);
                }
                _ => break,
            }
        }
    }

    fn exhausted(&self, taken: &Taken, now: Duration) -> IpamError {
        let quarantined = self.line.iter().filter(|(_, at)| now.saturating_sub(*at) < QUARANTINE).count();
        let held = |address: &&IpAddr| self.number(**address).is_some_and(|number| !self.in_use.contains(&number));
        let skipped = taken.iter().filter(held).count();
        IpamError::Exhausted { range: self.range, in_use: self.in_use.len(), quarantined, skipped }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::time::Duration;

    use minipod_model::range::node_address;

    use super::{Ipam, IpamError, QUARANTINE, Taken};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ipam(ranges: &[&str]) -> Ipam {
        let ranges: Vec<_> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        Ipam::new(&ranges, 0).expect("ranges")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn texts(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_families_get_the_same_number_and_the_reserved_ones_are_skipped() {
        let mut ipam = ipam(&["fd00:10:244:1::/64", "10.244.1.0/24"]);
        let first = ipam.allocate(&Taken::new(), at(0)).expect("free");
        assert_eq!(texts(&first), ["10.244.1.2", "fd00:10:244:1::2"]);
        let second = ipam.allocate(&Taken::new(), at(0)).expect("free");
        assert_eq!(texts(&second), ["10.244.1.3", "fd00:10:244:1::3"]);
        assert_eq!(node_address("10.244.1.0/24".parse().expect("a range")), ip("10.244.1.1"));
    }

    #[test]
    fn a_range_gives_every_address_once_and_then_says_why_there_is_none() {
        let mut ipam = ipam(&["10.0.0.0/28"]);
        let given: BTreeSet<IpAddr> = (0..13).map(|_| ipam.allocate(&Taken::new(), at(0)).expect("free")[0]).collect();
        assert_eq!(given.len(), 13);
        assert!(
            !given.contains(&ip("10.0.0.0")) && !given.contains(&ip("10.0.0.1")) && !given.contains(&ip("10.0.0.15"))
        );
        ipam.release(&[ip("10.0.0.5")], at(10));
        let error = ipam.allocate(&Taken::new(), at(20)).expect_err("all taken");
        assert!(error.is_temporary());
        assert_eq!(
            error.to_string(),
            "node range `10.0.0.0/28` has no free address (12 in use, 1 released less than 60 s ago, 0 of Pod objects that are not \
             attached); delete pods, or make the node anew with a wider range: `minipod node reset --yes`, then `minipod node start` \
             with fewer bits for `--node-cidr-mask-ipv4`, and for `--cluster-cidr` where that is no wider"
        );
        assert_eq!(ipam.allocate(&Taken::new(), at(10) + QUARANTINE).expect("free again"), [ip("10.0.0.5")]);
    }

    #[test]
    fn released_addresses_come_back_first_in_first_out_and_after_all_others() {
        let mut ipam = ipam(&["10.0.0.0/29"]);
        let taken = Taken::new();
        let given: Vec<IpAddr> = (0..3).map(|_| ipam.allocate(&taken, at(0)).expect("free")[0]).collect();
        ipam.release(&[given[1]], at(1));
        ipam.release(&[given[0]], at(2));
        let later = at(1000);
        let next: Vec<IpAddr> = (0..4).map(|_| ipam.allocate(&taken, later).expect("free")[0]).collect();
        assert_eq!(texts(&next), ["10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2"]);
    }

    #[test]
    fn a_successor_goes_on_where_its_predecessor_left_off() {
        let mut first = ipam(&["10.0.0.0/28"]);
        let kept = first.allocate(&Taken::new(), at(0)).expect("free");
        let gone = first.allocate(&Taken::new(), at(0)).expect("free");
        first.release(&gone, at(5));
        let mut second = Ipam::new(&first.ranges().collect::<Vec<_>>(), first.cursor()).expect("ranges");
        second.adopt(&kept);
        for (address, released) in first.quarantined(at(6)) {
            second.release(&[address], released);
        }
        let given: Vec<IpAddr> = (0..11).map(|_| second.allocate(&Taken::new(), at(7)).expect("free")[0]).collect();
        assert_eq!(given[0], ip("10.0.0.4"));
        assert!(!given.contains(&kept[0]) && !given.contains(&gone[0]));
        assert!(second.allocate(&Taken::new(), at(7)).is_err());
        assert_eq!(second.allocate(&Taken::new(), at(65)).expect("free again"), gone);
    }

    #[test]
    fn addresses_of_pod_objects_are_skipped() {
        let mut ipam = ipam(&["10.0.0.0/29", "fd00::/64"]);
        let taken = Taken::from([ip("10.0.0.2"), ip("fd00::3")]);
        assert_eq!(texts(&ipam.allocate(&taken, at(0)).expect("free")), ["10.0.0.4", "fd00::4"]);
    }

    #[test]
    fn where_no_common_number_is_free_each_family_has_its_own() {
        let mut ipam = ipam(&["10.0.0.0/30", "fd00::/64"]);
        let taken = Taken::from([ip("fd00::2")]);
        assert_eq!(texts(&ipam.allocate(&taken, at(0)).expect("free")), ["10.0.0.2", "fd00::3"]);
    }

    #[test]
    fn a_requested_address_is_honoured_or_refused_by_name() {
        let mut ipam = ipam(&["10.0.0.0/24", "fd00::/64"]);
        let taken = Taken::new();
        let mut ask = |requested: &[&str], now| {
            let requested: Vec<IpAddr> = requested.iter().map(|text| ip(text)).collect();
            ipam.allocate_requested(&requested, &taken, at(now)).map(|given| texts(&given))
        };
        assert_eq!(ask(&["10.0.0.77"], 0), Ok(vec!["10.0.0.77".to_owned(), "fd00::2".to_owned()]));
        assert_eq!(ask(&["10.0.0.77"], 0), Err(IpamError::InUse(ip("10.0.0.77"))));
        assert_eq!(ask(&["fd00::9", "10.0.0.9"], 0), Ok(vec!["10.0.0.9".to_owned(), "fd00::9".to_owned()]));
        for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "fd00::", "fd00::1"] {
            assert_eq!(ask(&[reserved], 0), Err(IpamError::Reserved(ip(reserved))));
        }
        assert!(matches!(ask(&["192.0.2.1"], 0), Err(IpamError::OutOfRange { .. })));
        let two = ask(&["10.0.0.20", "10.0.0.21"], 0);
        assert_eq!(two, Err(IpamError::TwoRequested(ip("10.0.0.20"), ip("10.0.0.21"))));
        ipam.release(&[ip("10.0.0.77")], at(0));
        let again = ipam.allocate_requested(&[ip("10.0.0.77")], &taken, at(30));
        assert_eq!(again, Err(IpamError::Quarantined { address: ip("10.0.0.77"), seconds: 31 }));
        assert!(ipam.allocate_requested(&[ip("10.0.0.77")], &taken, at(60)).is_ok());
    }

    #[test]
    fn ranges_that_cannot_work_are_refused() {
        let new = |ranges: &[&str]| {
            let ranges: Vec<_> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
            Ipam::new(&ranges, 0).map(|_| ()).map_err(|error| error.to_string())
        };
        assert!(new(&[]).is_err());
        assert!(new(&["10.0.0.0/24", "10.0.1.0/24"]).is_err());
        assert!(new(&["10.0.0.0/31"]).is_err());
        assert!(new(&["10.0.0.0/32"]).is_err());
        assert!(new(&["10.0.0.0/30"]).is_ok());
        assert!(new(&["fd00::/0"]).is_ok());
    }

    #[test]
    fn the_cursor_wraps() {
        let ranges = ["10.0.0.0/29".parse().expect("a range")];
        let mut ipam = Ipam::new(&ranges, u32::MAX).expect("ranges");
        assert_eq!(texts(&ipam.allocate(&Taken::new(), at(0)).expect("free")), ["10.0.0.2"]);
        let mut ipam = Ipam::new(&ranges, 6).expect("ranges");
        let given: Vec<IpAddr> = (0..2).map(|_| ipam.allocate(&Taken::new(), at(0)).expect("free")[0]).collect();
        assert_eq!(texts(&given), ["10.0.0.6", "10.0.0.2"]);
    }
}
