//! What a message sends while it runs: to objects, at once or later, and to the program.

use std::time::{Duration, SystemTime};

use crate::actor::destination::Destination;
use crate::actor::objects::Objects;
use crate::actor::told::{ActionId, QueuedSend, TimerId};
use crate::actor::{AccessError, Actor};
use crate::log::record::SendId;
use crate::placement::ShardIndex;
use crate::time::Time;

impl<A: Actor> Objects<'_, A> {
    /// Sends `message` as this message's sender, if this message succeeds. Nobody hears of its
    /// outcome.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(notify: A::Message, objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// objects.tell(notify)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NoRoom`] if its queue is full, [`AccessError::Unaddressed`] if it names no
    /// object.
    pub fn tell(&self, message: A::Message) -> Result<(), AccessError<A::Id>> {
        let to = self.route(&message)?;
        self.check_room(to)?;
        self.queue_send(message, to, None);
        Ok(())
    }

    /// Sends `message` as [`Objects::tell`] does, once `delay` has passed. Until then it waits in
    /// this shard, and [`Objects::cancel`] takes it back.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = u64>>(remind: A::Message, objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// use std::time::Duration;
    ///
    /// let timer = objects.tell_after(Duration::from_secs(60), remind)?;
    /// # let _ = timer;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::tell`].
    pub fn tell_after(&self, delay: Duration, message: A::Message) -> Result<TimerId, AccessError<A::Id>> {
        // What is later is a time of the wall clock.
        let latest = Time(Time::WALL_CLOCK.0 - 1);
        self.tell_when(self.run.now.after(delay).min(latest), message)
    }

    fn tell_when(&self, due: Time, message: A::Message) -> Result<TimerId, AccessError<A::Id>> {
        let to = self.route(&message)?;
        let waiting = self.run.timers_waiting + self.run.told.borrow().timed;
        if waiting >= self.run.limits.timers_max {
            return Err(AccessError::NoRoom { waiting });
        }
        let number = self.run.number();
        self.queue_send(message, to, Some((due, number)));
        Ok(TimerId { due: due.0, number: number.0 })
    }

    /// Sends `message` as [`Objects::tell_after`] does, when the wall clock shows `at`; at once, if
    /// that is over. With a log that time goes on while nothing runs: a message whose time has come
    /// by then runs when the next run has started.
    ///
    /// The wall clock is compared with the shard's time when the runtime starts. If it is set while
    /// the runtime runs, that counts from the next start.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64>>(close: A::Message, ends: SystemTime, objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    ///
    /// // The auction ends when it ends, whatever happens to this process.
    /// let timer = objects.tell_at(ends, close)?;
    /// # let _ = timer;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::tell_after`].
    pub fn tell_at(&self, at: SystemTime, message: A::Message) -> Result<TimerId, AccessError<A::Id>> {
        let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.tell_when(Time::of_wall_clock(since_1970), message)
    }

    /// Sends all these messages, if this message succeeds. As many as there is room for go at once,
    /// as [`Objects::tell`] sends them. The others wait among the timers and go in later turns, so
    /// many in each, beside whatever else comes: a publisher may have more subscribers than its
    /// queues have room. Messages to one object run in the order of this list. What is told later,
    /// by this message or another, may overtake those that wait.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Objects};
    /// # fn receive<A: Actor<Id = u64, State = Vec<u64>, Message: From<u64>>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// let subscribers = objects.get(7)?.map(Vec::as_slice).unwrap_or_default();
    /// objects.publish(subscribers.iter().map(|subscriber| A::Message::from(*subscriber)))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NoRoom`] if too few may wait for their time (`timers_max`),
    /// [`AccessError::Unaddressed`] if one names no object. Return it: some were told.
    pub fn publish(&self, messages: impl IntoIterator<Item = A::Message>) -> Result<(), AccessError<A::Id>> {
        for message in messages {
            let to = self.route(&message)?;
            if self.check_room(to).is_ok() {
                self.queue_send(message, to, None);
            } else {
                // Due before all that has a time, so also when the runtime stops.
                self.tell_when(Time(0), message)?;
            }
        }
        Ok(())
    }

    /// Hands an action to the program, if this message succeeds; with a log, once that is on disk.
    /// The program calls a web service, say, and what came of it is told to objects as a message:
    /// the action's *outcome*. It is sent as this message's sender.
    ///
    /// With a log an action is owed until its outcome has run. If the process ends before, the next
    /// run hands it out once more, with the same id. So it is performed at least once, and its
    /// outcome takes effect once, in one step with its payment.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, ActionId, Objects};
    /// # fn receive<A: Actor<Id = u64, State = Option<ActionId>>>(ship: A::Message, objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    /// // The order 7 remembers what it waits for.
    /// let action = objects.perform(ship)?;
    /// objects.insert(7, Some(action))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NoRoom`] if this shard owes `actions_owed_max` already: refuse the message,
    /// and its sender tries again later. [`AccessError::NotAnAction`] if [`Actor::is_action`] does
    /// not say that it is one, [`AccessError::NoPerformer`] if the runtime was started without
    /// anybody to perform it.
    pub fn perform(&self, action: impl Into<A::Message>) -> Result<ActionId, AccessError<A::Id>> {
        let action = action.into();
        if !A::is_action(&action) {
            return Err(AccessError::NotAnAction);
        }
        if !self.run.has_performer {
            return Err(AccessError::NoPerformer);
        }
        let waiting = self.run.actions_owed + self.run.told.borrow().actions;
        if waiting >= self.run.limits.actions_owed_max {
            return Err(AccessError::NoRoom { waiting });
        }
        let number = self.run.number();
        self.run.told.borrow_mut().send(QueuedSend {
            message: action,
            to: self.run.shard,
            sender: self.sender,
            due: None,
            is_action: true,
            staged: None,
            number: Some(number),
        });
        Ok(ActionId(number.0))
    }

    /// Takes a message back that waits for its time, if this message succeeds: it is gone from
    /// memory, and from the log. Nothing happens if it has run already.
    ///
    /// A message that is due, or that another shard keeps, may be on its way when this message
    /// runs, and then runs still. So a message that may be too late looks whether it is still
    /// wanted: an object that keeps the [`TimerId`] forgets it here.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use freehold_shard::{AccessError, Actor, Objects, TimerId};
    /// # fn receive<A: Actor<Id = u64, State = Option<TimerId>>>(message: A::Message, objects: &mut Objects<'_, A>) -> Result<(), AccessError<u64>> {
    ///
    /// // The session 7 ends in an hour, whatever was said before.
    /// if let Some(timer) = objects.get(7)?.copied().flatten() {
    ///     objects.cancel(timer)?;
    /// }
    /// let timer = objects.tell_after(Duration::from_secs(3600), message)?;
    /// objects.insert(7, Some(timer))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::NoRoom`] if the queue of the shard that keeps it is full, or this message
    /// has cancelled as many as `timers_max`.
    pub fn cancel(&self, timer: TimerId) -> Result<(), AccessError<A::Id>> {
        let keeper = self.run.keeper(timer.number());
        if keeper != self.run.shard {
            self.check_room(keeper)?;
        }
        let mut told = self.run.told.borrow_mut();
        if told.cancelled >= self.run.limits.timers_max {
            return Err(AccessError::NoRoom { waiting: told.cancelled });
        }
        told.cancel(timer, keeper, self.run.shard);
        Ok(())
    }

    /// Whether one more envelope may go to this shard at once.
    fn check_room(&self, to: ShardIndex) -> Result<(), AccessError<A::Id>> {
        let (waiting, max) = if to == self.run.shard {
            (self.run.own_waiting, self.run.limits.own_messages_max)
        } else {
            (self.outboxes.waiting_for(to), self.run.limits.outbox_messages_max)
        };
        let waiting = waiting + self.run.told.borrow().count_to(to);
        if waiting >= max { Err(AccessError::NoRoom { waiting }) } else { Ok(()) }
    }

    fn queue_send(&self, message: A::Message, to: ShardIndex, timer: Option<(Time, SendId)>) {
        self.run.told.borrow_mut().send(QueuedSend {
            message,
            to,
            sender: self.sender,
            due: timer.map(|(due, _)| due),
            is_action: false,
            staged: None,
            number: timer.map(|(_, number)| number),
        });
    }

    fn route(&self, message: &A::Message) -> Result<ShardIndex, AccessError<A::Id>> {
        match self.run.router.destination::<A>(message, &mut self.run.scratch.borrow_mut()) {
            Destination::One(shard) | Destination::Several(shard) => Ok(shard),
            Destination::Nowhere => Err(AccessError::Unaddressed),
        }
    }
}
