"""Checks what `bank` did, sharing no code with it.

    bank --input payments.csv --balances balances.csv --refused refused.csv
    python3 verify.py payments.csv balances.csv refused.csv [OPENING]

It makes the payments again one after the other and compares every refusal and every balance. That is exact because payments that share
an account are made in the order of the file. One thing it takes from `refused.csv` without being able to check it: which payments span
shards. (Whatever the order of payments, these hold: the balances sum up to OPENING for each account named, and if nobody
runs out of funds they are the same.)
"""
import csv, re, sys

lines = open(sys.argv[1], encoding="utf-8-sig")
balances, refused = (csv.DictReader(open(name)) for name in sys.argv[2:4])
opening = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
said = {int(row["line"]): row["reason"] for row in refused}
held, limit, header = {}, 2**64, None
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
    held.setdefault(payer, opening), held.setdefault(payee, opening)
    reason = said.pop(number, None)
    wanted = ("to oneself" if payer == payee else "of zero" if amount == 0 else "no funds" if held[payer] < amount
              else "balance too large" if held[payee] + amount >= limit else None)
    if reason != "spans shards" and reason != wanted:
        sys.exit(f"line {number}: {wanted or 'could be made'}, but the bank says {reason or 'made'}")
    if reason is None:
        held[payer] -= amount
        held[payee] += amount
listed = [(int(row["account"]), int(row["balance"])) for row in balances]
if said or listed != sorted(held.items()):
    sys.exit(f"refused but not in the input: {said}; wrong balances: {sorted(set(listed) ^ set(held.items()))[:10]}")
print(f"verified: {len(held)} accounts hold {sum(held.values())}")
