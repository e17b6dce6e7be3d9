import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenBucket } from "../../src/kit/tokenbucket.js";

const NOW = 1_000_000;
const taken = (bucket: TokenBucket, now: number): number => {
  let count = 0;
  while (count < 100 && bucket.spend(1, now)) count++;
  return count;
};

test("a bucket gives its burst at once, then so much a second, and never more than its burst", () => {
  const bucket = new TokenBucket({ perSecond: 2, burst: 3 });
  assert.equal(taken(bucket, NOW), 3);
  assert.equal(taken(bucket, NOW + 499), 0);
  assert.equal(taken(bucket, NOW + 500), 1);
  assert.equal(taken(bucket, NOW + 3_600_000), 3);
});

test("asking whether there are some takes none, and a refused purchase neither", () => {
  const bucket = new TokenBucket({ perSecond: 1, burst: 2 });
  assert.ok(bucket.has(2, NOW) && bucket.has(2, NOW));
  assert.equal(bucket.spend(3, NOW), false);
  assert.equal(bucket.spend(2, NOW), true);
  assert.equal(bucket.has(1, NOW), false);
});

test("a purchase larger than the bucket passes, and the next one waits until it is paid", () => {
  const bucket = new TokenBucket({ perSecond: 1_000, burst: 100 });
  assert.equal(bucket.charge(100, NOW), 0);
  assert.equal(bucket.charge(300, NOW), 300);
  assert.equal(bucket.charge(0, NOW + 200), 100);
  assert.equal(bucket.charge(0, NOW + 300), 0);
});

test("a clock that steps back neither gives nor takes, and time counts on from there", () => {
  const bucket = new TokenBucket({ perSecond: 1, burst: 5 });
  assert.equal(taken(bucket, NOW), 5);
  assert.equal(taken(bucket, NOW - 86_400_000), 0);
  assert.equal(taken(bucket, NOW - 86_400_000 + 2_000), 2);
  const full = new TokenBucket({ perSecond: 1, burst: 5 });
  assert.ok(full.has(5, NOW));
  assert.equal(taken(full, NOW - 1), 5);
});

for (const moment of [Number.NaN, Infinity, -Infinity])
  test(`a moment that is ${moment} gives nothing and spoils nothing`, () => {
    const bucket = new TokenBucket({ perSecond: 1, burst: 2 });
    assert.equal(taken(bucket, moment), 2);
    assert.equal(taken(bucket, moment), 0);
    assert.equal(taken(bucket, NOW), 0);
    assert.equal(taken(bucket, moment), 0);
    assert.equal(taken(bucket, NOW + 1_000), 1);
  });

test("a bucket that never refills stays empty, whatever the time", () => {
  const bucket = new TokenBucket({ perSecond: 0, burst: 1 });
  assert.equal(taken(bucket, NOW), 1);
  assert.equal(taken(bucket, NOW * 2), 0);
  assert.equal(bucket.charge(1, NOW * 2), Infinity);
});
