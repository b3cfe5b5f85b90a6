//! An action.

use super::*;
use freehold::{Action, ActionOf, Embedding, Receive, To};
use futures::StreamExt;

freehold::actor! {
    actor Shop {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Order(number: u64) }
        messages { Place -> (), Ship -> (), Shipped -> () }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    shipped: bool,
}

struct Place {
    order: u64,
}

struct Ship {
    order: u64,
}

struct Shipped {
    order: u64,
}

impl ActionOf<Shop> for Ship {}

impl Receive<Shop> for Place {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.order);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
        objects.put(self.order, Order { shipped: false })?;
        objects.perform(Ship { order: self.order })?;
        Ok(())
    }
}

impl Receive<Shop> for Shipped {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.order);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
        objects.put(self.order, Order { shipped: true })?;
        Ok(())
    }
}

#[test]
fn an_order_is_shipped_by_an_action() -> Result<(), Box<dyn Error>> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let spawner = tokio.handle().clone();
    let embedding = Embedding::new().perform_with(move |action: Action<Shop>| {
        spawner.spawn(async move {
            let Message::Ship(Ship { order }) = *action.message() else { return };
            // The same whenever it is performed: the outside knows it again by that.
            let _key = action.id().number();
            tokio::time::sleep(Duration::from_millis(1)).await;
            action.done(Shipped { order });
        });
    });
    let runtime = Runtime::<Shop>::start_with(Config::default(), embedding)?;
    let shop = runtime.handle();
    shop.call(Place { order: 7 }).wait()?;
    let _watchdog = crate::support::Watchdog::new("guide::an_order_is_shipped_by_an_action");
    tokio.block_on(wait_until_shipped(&shop))
}

async fn wait_until_shipped(shop: &Handle<Shop>) -> Result<(), Box<dyn Error>> {
    let mut watch = shop.watch::<Order>(7)?;
    while let Some(order) = watch.next().await {
        if order?.is_some_and(|order| order.shipped) {
            break;
        }
    }
    Ok(())
}
