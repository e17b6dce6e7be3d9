import { leakTest } from "../../src/cli/leaktest.js";
import { systemClock } from "../../src/sys/clock.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { systemRandom } from "../../src/sys/random.js";
import { agentStatus } from "../../src/wire/agentsocket.js";

/** node lookupsleak.js FOLDER GIVEN (as JSON): the leak test's findings as JSON, and how long it took, for an agent whose socket is in FOLDER. */
const [folder = "", text = ""] = process.argv.slice(2);
const { dns, uid, addresses } = JSON.parse(text);
const status = agentStatus.parse({
  ...{ version: "test", name: "laptop", role: "device", addresses, dataPlane: "userspace", interface: "exn0" },
  ...{ listenPort: 0, coordinator: { connected: true }, peers: [], warnings: [], dns },
  exit: { name: "home", ipv4: true, ipv6: true, state: "active" },
});
const began = performance.now();
const found = await leakTest(
  {
    ...{ env: {}, exec: localExec, clock: systemClock, random: systemRandom, interactive: false },
    files: { ...localFiles, readText: async () => `exitnode:x:${uid}:${uid}::/:/bin/false\n` },
    paths: { etc: folder, var: folder, run: folder, config: folder, state: folder, cache: folder, package: folder },
    say: () => undefined,
  },
  status,
);
process.stdout.write(JSON.stringify({ found, tookMs: performance.now() - began }));
