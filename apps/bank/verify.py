"""Checks what `bank` did, sharing no code with it.

    bank --input payments.csv --balances balances.csv --refused refused.csv
    python3 verify.py payments.csv balances.csv refused.csv [OPENING] [--in-order]

Payments that share an account may be made in another order than that of the file where some go between shards. So this is checked, which
holds in any order: on every account is exactly OPENING and what it received less what it paid, over all payments not refused, and
that is not negative; refused as to oneself or of zero are exactly those that are; for want of funds or of room only such as could ever meet it; and nobody
paid what he can never have had.

With --in-order it makes the payments again one after the other, and every refusal must be the same too. That is for banks that keep the
order: with one shard, with payments within shards only (`--cross 0`), or with one payment at a time (`--batch 1 --in-flight 1`).
"""
import argparse, collections, csv, re, sys

parser = argparse.ArgumentParser()
for name in ("payments", "balances", "refused"):
    parser.add_argument(name)
parser.add_argument("opening", nargs="?", type=int, default=1000)
parser.add_argument("--in-order", action="store_true")
told = parser.parse_args()

lines = open(told.payments, encoding="utf-8-sig")
balances, refused = (csv.DictReader(open(name)) for name in (told.balances, told.refused))
said = {int(row["line"]): row["reason"] for row in refused}
held, limit, header = {}, 2**64, None
# By account: what it paid and received, the most it paid at once, and the least it was refused to pay for want of funds, and to receive for
# want of room.
paid, received, most, no_funds, no_room = (collections.defaultdict(int) for _ in range(5))
for number, line in enumerate(lines, 1):
    # Line by line, so that an open quote spoils one line only.
    fields = [field.strip() for field in next(csv.reader([line]), [])]
    if header is None and any(fields):
        header = fields
        continue
    texts = [dict(zip(header, fields)).get(name, "") for name in ("from", "to", "amount")]
    if len(fields) != len(header) or not all(re.fullmatch(r"\+?[0-9]+", text) and int(text) < limit for text in texts):
        continue  # a blank or bad line
    payer, payee, amount = map(int, texts)
    held.setdefault(payer, told.opening), held.setdefault(payee, told.opening)
    reason = said.pop(number, None)
    wanted = "to oneself" if payer == payee else "of zero" if amount == 0 else None
    if told.in_order and wanted is None:
        wanted = ("no funds" if held[payer] < amount
                  else "balance too large" if held[payee] + amount >= limit else None)
    depends = not told.in_order and wanted is None and reason in ("no funds", "balance too large")
    if reason != wanted and not depends:
        sys.exit(f"line {number}: {wanted or 'could be made'}, but the bank says {reason or 'made'}")
    if reason is None:
        held[payer] -= amount
        held[payee] += amount
        paid[payer] += amount
        received[payee] += amount
        most[payer] = max(most[payer], amount)
    elif reason == "no funds":
        no_funds[payer] = min(no_funds.get(payer, limit), amount)
    elif reason == "balance too large":
        no_room[payee] = min(no_room.get(payee, limit), amount)
for account in held:
    least, largest = told.opening - paid[account], told.opening + received[account]
    if (most[account] > largest or account in no_funds and no_funds[account] <= least
            or account in no_room and no_room[account] + largest < limit):
        sys.exit(f"account {account} always held {least} to {largest}: it cannot have paid {most[account]}, "
                 f"or lacked funds for {no_funds.get(account)}, or room for {no_room.get(account)}")
listed = [(int(row["account"]), int(row["balance"])) for row in balances]
if said or listed != sorted(held.items()) or any(not 0 <= balance < limit for balance in held.values()):
    sys.exit(f"refused but not in the input: {said}; wrong balances: {sorted(set(listed) ^ set(held.items()))[:10]}")
print(f"verified: {len(held)} accounts hold {sum(held.values())}")
