//! Places in the engine's pools, for all apps and workers together.
//!
//! A full pool makes a request wait; it must never make one fail. So a place is taken before anything is instantiated,
//! and it costs what its module takes out of the pools. Every app that is served is guaranteed a share: others may use
//! it while the app does not, but never so that the app finds nothing once it wants it and they have let go.
//!
//! Here an app is a number. Whoever holds its [`Share`], an instance in a Store that is still to be dropped included,
//! keeps the number from being given to another app.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::anatomy::Needs;
use super::engine::{CORE_INSTANCES_PER_PLACE, TABLES_PER_PLACE};
use super::limiter::MemoryBudget;
use super::scheduler::AppId;

/// What one app has of the places.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    held: u32,
    /// What it may count on: nothing once the app is not served any more.
    guarantee: u32,
}

impl Account {
    fn unused(self) -> u32 {
        self.guarantee.saturating_sub(self.held)
    }
}

#[derive(Debug)]
struct Inner {
    free: u32,
    /// What apps are guaranteed and do not hold, summed up.
    reserved: u32,
    /// By the app's number. None: the number is free.
    accounts: Vec<Option<Account>>,
}

impl Inner {
    fn account(&self, app: AppId) -> Account {
        self.accounts.get(app as usize).copied().flatten().unwrap_or_default()
    }

    /// Changes an account, and what is reserved with it.
    fn change(&mut self, app: AppId, change: impl FnOnce(&mut Account)) {
        if let Some(Some(account)) = self.accounts.get_mut(app as usize) {
            let before = account.unused();
            change(account);
            self.reserved = self.reserved - before + account.unused();
        }
    }
}

/// The places that are free.
#[derive(Debug)]
pub(crate) struct Places {
    count: u32,
    inner: Mutex<Inner>,
    wanted: AtomicBool,
    /// Some apps' memory is used up, so that an instance of theirs was not begun.
    memory_wanted: AtomicBool,
}

/// An app's part in the places, and its number, which no other app has for as long as this lives.
#[derive(Debug)]
pub(crate) struct Share {
    places: Arc<Places>,
    app: AppId,
    /// What the memories of its instances share with those of other apps.
    memory: Option<Arc<MemoryBudget>>,
}

/// Places that are taken. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    share: Arc<Share>,
    cost: u32,
}

/// How many places an instance of a guest takes: a memory each, and a share of the tables and of the core instances.
pub(crate) fn cost(needs: &Needs) -> u32 {
    let shares = needs.tables.div_ceil(TABLES_PER_PLACE.into());
    let cost = needs.memories.max(shares).max(needs.core_instances.div_ceil(CORE_INSTANCES_PER_PLACE.into()));
    u32::try_from(cost.max(1)).unwrap_or(u32::MAX)
}

impl Places {
    /// `count` places, and no app yet.
    pub(crate) fn new(count: u32) -> Arc<Self> {
        let inner = Inner { free: count, reserved: 0, accounts: Vec::new() };
        let [wanted, memory_wanted] = [(); 2].map(|()| AtomicBool::new(false));
        Arc::new(Self { count, inner: Mutex::new(inner), wanted, memory_wanted })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another app, under the smallest number that is free. It may take places; what it is guaranteed is for
    /// [`Self::guarantee`] to say.
    #[cfg(test)]
    pub(crate) fn join(self: &Arc<Self>) -> Arc<Share> {
        self.join_with(None)
    }

    /// The same, whose instances' memories share `memory` with those of other apps.
    pub(crate) fn join_with(self: &Arc<Self>, memory: Option<Arc<MemoryBudget>>) -> Arc<Share> {
        let mut inner = self.lock();
        let free = inner.accounts.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            inner.accounts.push(None);
            inner.accounts.len() - 1
        });
        inner.accounts[index] = Some(Account::default());
        drop(inner);
        // There is memory for far fewer apps than there are numbers.
        Arc::new(Share { places: Arc::clone(self), app: index as AppId, memory })
    }

    /// These apps are served from now on: half of all places are guaranteed to them, in equal shares. What the others
    /// hold they keep until they are done with it.
    pub(crate) fn guarantee(&self, apps: &[AppId]) {
        let served = u32::try_from(apps.len()).unwrap_or(u32::MAX);
        let guarantee = self.count / 2 / served.max(1);
        let mut inner = self.lock();
        inner.reserved = 0;
        for account in inner.accounts.iter_mut().flatten() {
            account.guarantee = 0;
        }
        for app in apps {
            inner.change(*app, |account| account.guarantee = guarantee);
        }
    }

    /// No place was found: whoever holds idle instances gives one up. True if nobody had said so yet.
    pub(crate) fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::AcqRel)
    }

    /// True if no place was found and none has come free since.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Some apps' memory is used up: whoever holds idle instances of theirs gives one up. True if nobody had said so yet.
    pub(crate) fn want_memory(&self) -> bool {
        !self.memory_wanted.swap(true, Ordering::AcqRel)
    }

    /// True if some apps' memory was used up, and no place has come free since.
    pub(crate) fn is_memory_wanted(&self) -> bool {
        self.memory_wanted.load(Ordering::Acquire)
    }
}

impl Share {
    /// The app's number.
    pub(crate) fn app(&self) -> AppId {
        self.app
    }

    /// Takes `cost` places, unless they are not there or are others' due.
    pub(crate) fn take(self: &Arc<Self>, cost: u32) -> Option<Place> {
        let mut inner = self.places.lock();
        let own = inner.account(self.app).unused().min(inner.reserved);
        let available = inner.free.saturating_sub(inner.reserved - own);
        // Apps that came later may be guaranteed what others hold still: then what is free goes by who comes first.
        if available < cost && inner.free.min(own) < cost {
            return None;
        }
        inner.free -= cost;
        inner.change(self.app, |account| account.held += cost);
        Some(Place { share: Arc::clone(self), cost })
    }

    /// True if there is no memory for an instance that begins with so much, whatever the places are.
    pub(crate) fn lacks_memory(&self, bytes: u64) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.lacks(bytes))
    }

    /// True if an instance that shares its memory was not begun, and nothing has been given back since.
    pub(crate) fn is_memory_wanted(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.is_wanted())
    }

    /// True if the app holds more than it is guaranteed.
    pub(crate) fn is_exceeded(&self) -> bool {
        let account = self.places.lock().account(self.app);
        account.held > account.guarantee
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut inner = self.places.lock();
        // What was reserved for it is not any more. It holds nothing: a place holds the share.
        inner.change(self.app, |account| *account = Account::default());
        if let Some(account) = inner.accounts.get_mut(self.app as usize) {
            *account = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &self.share.places;
        let mut inner = places.lock();
        inner.free += self.cost;
        inner.change(self.share.app, |account| account.held = account.held.saturating_sub(self.cost));
        drop(inner);
        if places.is_wanted() {
            places.wanted.store(false, Ordering::Release);
        }
        if places.is_memory_wanted() {
            places.memory_wanted.store(false, Ordering::Release);
        }
    }
}

impl Place {
    /// What the instance's memory shares with others.
    pub(crate) fn memory(&self) -> Option<Arc<MemoryBudget>> {
        self.share.memory.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps<const N: usize>(count: u32) -> (Arc<Places>, [Arc<Share>; N]) {
        let places = Places::new(count);
        let shares = std::array::from_fn(|_| places.join());
        places.guarantee(&shares.each_ref().map(|share| share.app()));
        (places, shares)
    }

    fn all(share: &Arc<Share>) -> Vec<Place> {
        std::iter::from_fn(|| share.take(1)).collect()
    }

    #[test]
    fn places_come_back() {
        let (places, [app]) = apps(2);
        let one = app.take(1).unwrap();
        let _two = app.take(1).unwrap();
        assert!(app.take(1).is_none());
        assert!(places.want() && !places.want());
        drop(one);
        assert!(!places.is_wanted());
        assert!(app.take(1).is_some());
    }

    #[test]
    fn a_guest_costs_what_it_takes_out_of_the_pools() {
        let cost = |memories, tables, core_instances| {
            cost(&Needs { memories, tables, core_instances, ..Needs::default() })
        };
        assert_eq!(
            [cost(1, 1, 1), cost(0, 0, 0), cost(8, 0, 1), cost(1, 16, 1), cost(1, 5, 1)],
            [1, 1, 8, 4, 2]
        );
        assert_eq!([cost(1, 1, 16), cost(1, 1, 17), cost(1, 4, 64), cost(5, 4, 64)], [1, 2, 4, 5]);
        let (_, [app]) = apps(10);
        let eight = app.take(8).unwrap();
        assert!(app.take(8).is_none());
        assert!(app.take(2).is_some());
        drop(eight);
        assert!(app.take(8).is_some());
    }

    #[test]
    fn an_app_finds_its_share_whatever_others_take() {
        let (places, [greedy, modest]) = apps(100);
        let most = all(&greedy);
        assert_eq!(most.len(), 75, "all but the other's guarantee");
        assert!(greedy.is_exceeded());
        let rest = all(&modest);
        assert_eq!(rest.len(), 25);
        assert!(!modest.is_exceeded());
        drop((most, rest));
        let inner = places.lock();
        assert_eq!((inner.free, inner.reserved), (100, 50));
    }

    #[test]
    fn guarantees_follow_the_apps_that_are_served() {
        let (places, [old, kept]) = apps(100);
        let held = all(&old);
        assert_eq!(held.len(), 75);
        let new = places.join();
        places.guarantee(&[kept.app(), new.app()]);
        assert_eq!(places.lock().reserved, 50);
        // What the old app holds it keeps, and it gets nothing more; what it lets go is the others' first.
        assert!(old.take(1).is_none());
        let theirs = [all(&kept), all(&new)];
        assert_eq!(theirs.each_ref().map(Vec::len), [25, 0]);
        let mut held = held;
        held.truncate(50);
        assert!(old.take(1).is_none());
        assert_eq!(all(&new).len(), 25);
        drop((held, theirs));
        assert_eq!(all(&old).len(), 50, "what nobody is guaranteed");
        let inner = places.lock();
        assert_eq!((inner.free, inner.reserved), (100, 50));
    }

    #[test]
    fn a_number_is_given_again_only_when_nothing_of_its_app_lives() {
        let (places, [app]) = apps(10);
        let number = app.app();
        let place = app.take(1).unwrap();
        places.guarantee(&[]);
        drop(app);
        let other = places.join();
        assert_ne!(other.app(), number);
        drop(place);
        assert_eq!(places.join().app(), number);
        let inner = places.lock();
        assert_eq!((inner.free, inner.reserved), (10, 0));
    }

    #[test]
    fn an_app_that_goes_while_it_is_served_leaves_nothing_reserved() {
        let (places, [app, other]) = apps(10);
        drop(app);
        assert_eq!(places.lock().reserved, 2);
        assert_eq!(all(&other).len(), 10);
    }
}
