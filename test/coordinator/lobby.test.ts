import assert from "node:assert/strict";
import { test } from "node:test";
import { LOBBY_MAX, Lobby, type Place } from "../../src/coordinator/lobby.js";
import { HANDSHAKE_LIMITS } from "../../src/sys/handshakes.js";

/** A lobby, and who was sent away from it, by number. */
function open() {
  const lobby = new Lobby();
  const sent: number[] = [];
  let entered = 0;
  const from = (remote: string): Place => {
    const number = entered++;
    return lobby.enter(remote, () => void sent.push(number));
  };
  return { lobby, sent, from, enter: () => from("192.0.2.1") };
}
const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

test("each stage has a place for everybody whose TLS handshake may be under way before it", () => {
  assert.ok(LOBBY_MAX >= HANDSHAKE_LIMITS.pendingMax);
});

test("a stranger is pushed out by a full lobby of later ones, the oldest first, and by nobody before", () => {
  const { lobby, sent, enter } = open();
  times(LOBBY_MAX, enter);
  assert.deepEqual(sent, []);
  times(2, enter);
  assert.deepEqual(sent, [0, 1]);
  assert.equal(lobby.size, LOBBY_MAX);
});

test("a stranger from elsewhere stays, however many more come from one address", () => {
  const { sent, from, enter } = open();
  times(LOBBY_MAX, enter);
  from("198.51.100.7");
  times(2 * LOBBY_MAX, enter);
  assert.equal(sent.length, 2 * LOBBY_MAX + 1);
  assert.ok(!sent.includes(LOBBY_MAX));
});

test("those that have begun a handshake take no stranger's place, and no stranger takes theirs", () => {
  const { lobby, sent, enter } = open();
  for (const place of times(LOBBY_MAX, enter)) place.promising();
  times(LOBBY_MAX, enter);
  assert.deepEqual(sent, []);
  enter();
  assert.deepEqual(sent, [LOBBY_MAX]);
  assert.equal(lobby.size, 2 * LOBBY_MAX);
});

test("of those that have begun a handshake one too many is sent away, and comes in when another has left", () => {
  const { lobby, sent, enter } = open();
  const [first, ...places] = times(LOBBY_MAX + 1, () => {
    const place = enter();
    place.promising();
    return place;
  });
  assert.deepEqual(sent, [LOBBY_MAX]);
  first?.leave();
  const again = enter();
  again.promising();
  assert.deepEqual(sent, [LOBBY_MAX]);
  for (const place of [...places, again]) place.leave();
  assert.equal(lobby.size, 0);
});
