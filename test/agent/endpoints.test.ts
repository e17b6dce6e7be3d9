import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates, ENDPOINT_WINDOW_MS, nearestFirst, nextSearch } from "../../src/agent/endpoints.js";
import { formatEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";

const list = ["203.0.113.77:51820", "[2001:db8:77:1::50]:51820", "198.18.77.50:51820", "not an endpoint"];

test("from elsewhere only public endpoints are tried, in the order given", () => {
  const found = candidates(list, [parseCidr("192.168.1.0/24"), parseCidr("2001:db8:88:1::/64")]);
  assert.deepEqual(found.map(formatEndpoint), ["203.0.113.77:51820", "[2001:db8:77:1::50]:51820"]);
});

test("in the peer's own network its private endpoint comes first", () => {
  const found = candidates(list, [parseCidr("198.18.77.0/24")]);
  assert.deepEqual(found.map(formatEndpoint), ["198.18.77.50:51820", "203.0.113.77:51820"]);
});

test("without IPv6 no IPv6 endpoint is tried", () => {
  assert.equal(candidates(list, [parseCidr("192.168.1.0/24"), parseCidr("fe80::/64")]).length, 1);
});

test("a candidate keeps its window, then the next has its turn, round the list", () => {
  const first = nextSearch(undefined, 2, undefined, 0);
  assert.deepEqual(first, { at: 0, since: 0 });
  assert.equal(nextSearch(first, 2, undefined, ENDPOINT_WINDOW_MS - 1).at, 0);
  const second = nextSearch(first, 2, undefined, ENDPOINT_WINDOW_MS);
  assert.deepEqual(second, { at: 1, since: ENDPOINT_WINDOW_MS });
  assert.equal(nextSearch(second, 2, undefined, 2 * ENDPOINT_WINDOW_MS).at, 0);
});

test("a proven path is kept; one whose handshake has grown old is searched anew", () => {
  const search = { at: 1, since: 0 };
  assert.equal(nextSearch(search, 3, 100_000, 1_000_000), search);
  assert.equal(nextSearch(search, 3, 200_000, 1_000_000).at, 2);
});

test("a coordinator's address in this machine's own network is tried before its public one", () => {
  const urls = [
    "https://203.0.113.77",
    "https://198.18.77.50:443",
    "https://home.example",
    "https://[2001:db8:77:1::50]",
  ];
  assert.deepEqual(nearestFirst(urls, [parseCidr("198.18.77.0/24")]), [urls[1], urls[0], urls[2], urls[3]]);
  assert.deepEqual(nearestFirst(urls, [parseCidr("2001:db8:77:1::/64")]), [urls[3], urls[0], urls[1], urls[2]]);
  assert.deepEqual(nearestFirst(urls, []), urls);
});
