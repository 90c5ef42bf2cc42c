//! Tasks that run beside the handler.

use super::*;

#[test]
fn tasks_run_beside_the_handler_and_end_with_it() {
    let dropped = Rc::new(Cell::new(0));
    let progress = Rc::new(Cell::new(0));
    let (theirs, steps) = (Rc::clone(&dropped), Rc::clone(&progress));
    block_on(async {
        drop(task::spawn(async move {
            let _dropped = Dropped(&theirs);
            loop {
                task::sleep(ms(10)).await;
                steps.set(steps.get() + 1);
            }
        }));
        task::sleep(ms(35)).await;
        assert_eq!(dropped.get(), 0);
    });
    assert_eq!((progress.get(), dropped.get()), (3, 1));
}

#[test]
fn a_task_that_is_aborted_is_dropped_where_it_waits() {
    let dropped = Rc::new(Cell::new(0));
    block_on(async {
        let spawn = || {
            let dropped = Rc::clone(&dropped);
            task::spawn(async move {
                let _dropped = Dropped(&dropped);
                task::sleep(ms(10)).await;
            })
        };
        spawn().abort();
        assert_eq!(dropped.get(), 0, "it never ran, so there is nothing of it to drop yet");
        let second = spawn();
        task::sleep(ms(5)).await;
        second.abort();
        assert_eq!(dropped.get(), 1);
        // A task in the same place is not mixed up with it.
        let third = spawn();
        third.await;
        assert_eq!(dropped.get(), 2);
        // What is done can be aborted too.
        let done = task::spawn(async {});
        task::yield_now().await;
        assert!(done.is_finished());
        done.abort();
    });
}

#[test]
fn a_task_may_abort_itself_and_start_others() {
    block_on(async {
        let channel = Channel::<task::JoinHandle<()>>::new();
        let own = channel.clone();
        let dropped = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&dropped);
        let handle = task::spawn(async move {
            let _dropped = Dropped(&theirs);
            own.receive().await.abort();
            // It is over at its next wait.
            pending::<()>().await;
        });
        channel.send(handle);
        let nested = task::spawn(async { task::spawn(async { task::spawn(async { 7 }).await }).await });
        assert_eq!(nested.await, 7);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_task_that_is_woken_while_it_runs_an_executor_is_not_forgotten() {
    block_on(async {
        let channel = Channel::new();
        let sender = channel.clone();
        let handle = task::spawn(async move {
            let mut receive = pin!(channel.receive());
            let mut nested = false;
            poll_fn(|cx| {
                let received = receive.as_mut().poll(cx);
                if !std::mem::replace(&mut nested, true) {
                    assert!(received.is_pending());
                    // Its own waker goes off in here.
                    block_on(task::sleep(ms(10)));
                }
                received
            })
            .await
        });
        task::spawn(async move { sender.send("sent") });
        assert_eq!(handle.await, "sent");
    });
}

#[test]
#[should_panic(expected = "outside of `task::block_on`")]
fn a_task_needs_somebody_to_run_it() {
    task::spawn(async {});
}

#[test]
#[should_panic(expected = "the task is gone")]
fn a_task_cannot_be_awaited_when_its_executor_is_over() {
    let mut handle = None;
    block_on(async { handle = Some(task::spawn(pending::<()>())) });
    block_on(handle.unwrap());
}

#[test]
fn tasks_that_start_tasks_when_dropped_do_not_keep_it_going() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            task::spawn(pending::<()>());
            task::spawn(async {}).abort();
        }
    }
    block_on(async {
        for _ in 0..3 {
            task::spawn(async {
                let _last = Last;
                pending::<()>().await;
            });
        }
        task::yield_now().await;
    });
    assert_eq!(block_on(async { task::spawn(async { 1 }).await }), 1);
}
