import assert from "node:assert/strict";
import { test } from "node:test";
import { describeExits } from "../../src/cli/exitwords.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";

const cabin = { name: "cabin", ipv4: true, ipv6: true, state: "active" as const };

test("an exit that was chosen alone needs no explanation", () => {
  assert.deepEqual(describeExits(cabin), []);
});

test("why another exit is used, when the first is again, and how each does are told", () => {
  const lines = describeExits({
    ...cabin,
    wanted: ["home", "cabin"],
    exits: [
      { name: "home", state: "answers", roundTripMs: 24.2 },
      { name: "cabin", state: "answers", roundTripMs: 31 },
    ],
    switched: { from: "home", why: "silent", agoMs: 3 * MINUTE },
    returns: { to: "home", inMs: 42 * SECOND, holdMs: MINUTE },
  });
  assert.deepEqual(lines, [
    "since 3 min: home stopped answering",
    "back to home in 42.0 s, if it goes on answering",
    "home answers in 24.2 ms, cabin answers in 31.0 ms",
  ]);
});

test("with no exit that answers it is said that nothing leaves", () => {
  const lines = describeExits({
    ...cabin,
    wanted: ["home", "cabin"],
    exits: [
      { name: "home", state: "silent", roundTripMs: 24 },
      { name: "cabin", state: "silent" },
    ],
    switched: { from: "home", why: "cut-off", agoMs: 5 * SECOND },
    returns: { to: "home", holdMs: 2 * MINUTE },
  });
  assert.deepEqual(lines, [
    "since 5.0 s: home answers, but the Internet behind it does not",
    "back to home once it has answered for 2 min",
    "none of them answers: until one does, nothing leaves this machine",
    "home does not answer, cabin does not answer",
  ]);
});
