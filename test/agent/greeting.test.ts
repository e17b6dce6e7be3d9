import assert from "node:assert/strict";
import { test } from "node:test";
import { Greeting } from "../../src/agent/greeting.js";
import { formatEndpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import type { MapPeer } from "../../src/wire/map.js";
import type { InterfaceState } from "../../src/wireguard/interface.js";
import { PHONE } from "./agentworld.js";

const APP: MapPeer = { ...PHONE, app: true };
const heardAt = (endpoint: string): InterfaceState => ({
  ...{ name: "exn0", listenPort: 51_820, warnings: [] },
  peers: [
    {
      ...{ publicKey: PHONE.publicKey, endpoint: parseEndpoint(endpoint), lastHandshakeAgeMs: 1 },
      ...{ receivedBytes: 1, sentBytes: 1 },
    },
  ],
});

test("an app that moves is sent nowhere by what was heard of it before, and after a restart to where it was last", () => {
  const greeting = new Greeting(true, { [PHONE.publicKey]: "203.0.113.1:1" }, 0);
  const asked = (peer: MapPeer): string | undefined => {
    const found = greeting.of(peer);
    return found && formatEndpoint(found);
  };
  assert.equal(greeting.note(heardAt("203.0.113.2:2")), true);
  assert.equal(asked(APP), "203.0.113.1:1", "an equal endpoint is none to set up");
  assert.equal(asked(PHONE), "203.0.113.2:2", "an agent is looked for where it was heard");
  const next = new Greeting(true, greeting.heard, 0).of(APP);
  assert.equal(next && formatEndpoint(next), "203.0.113.2:2");
});
