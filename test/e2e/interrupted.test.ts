import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { object, World } from "./world.js";

/** `create` ended at every step, by a Ctrl-C or by a kill nobody can answer, and run again. */

const world = new World();
const CREATE = ["create", "--host", "lab", "--name", "home"];
/** More steps than create has: the chain must end by itself. */
const RUNS_MAX = 40;

before(async () => {
  await world.raiseLab();
  await world.json("appliance", "build");
});
after(() => world.close());

/** Runs create and ends it as soon as it reports `steps` steps as done: what it reported, and whether it was left to finish. */
async function interrupted(steps: number, signal: NodeJS.Signals): Promise<{ finished: boolean; said: string }> {
  let pid = 0;
  let done = 0;
  const ran = await world.run(CREATE, {
    started: (started) => {
      pid = started;
    },
    heard: (text) => {
      done += text.split("done: ").length - 1;
      if (done < steps || pid === 0) return;
      end(pid, signal);
      pid = 0;
    },
  });
  return { finished: ran.code === 0, said: ran.stderr.replace(/ \([^)]*\)/g, "") };
}

/** It may have come to its end before its words were read. */
function end(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ESRCH");
  }
}

async function oneWorkingContainer(): Promise<number> {
  const made = await world.json(...CREATE);
  const { containers } = await world.json("lab", "status");
  assert.ok(Array.isArray(containers));
  assert.equal(containers.length, 1);
  const vmid = Number(object(made.exitNode).vmid);
  assert.equal(object(containers[0]).vmid, vmid);
  assert.equal((await world.run(["plan", "--host", "lab", "--name", "home"])).code, 0);
  assert.equal(
    (await world.inside(vmid, "systemctl", "is-active", "exitnode-agent", "exitnode-coordinator")).trim(),
    "active\nactive",
  );
  await world.laptopUp();
  const used = await world.laptop("use", "home");
  assert.equal(used.code, 0, used.stderr);
  assert.equal(
    (await world.at("laptop", "curl", "-4", "-s", "-m", "30", "http://whoami.lab/")).stdout.trim(),
    "203.0.113.77",
  );
  await world.laptop("down", "--forget");
  return vmid;
}

for (const signal of ["SIGKILL", "SIGINT"] as const)
  test(`${signal} after each step of create, then create again: one container, working`, async () => {
    let runs = 0;
    let before = "";
    for (let steps = 1; runs < RUNS_MAX; runs++) {
      const { finished, said } = await interrupted(steps, signal);
      if (finished) break;
      // Steps that only look are done anew in every run: one that got no further is let one step further.
      steps = said === before ? steps + 1 : 1;
      before = said;
    }
    assert.ok(runs >= 5, `create was interrupted only ${runs} times`);
    assert.ok(runs < RUNS_MAX, "create never came to its end");
    await oneWorkingContainer();
    await world.json("destroy", "home", "--host", "lab", "--yes");
  });

test("a kill while the container is being unpacked leaves one container after the next create", async () => {
  let pid = 0;
  await world.run(CREATE, {
    started: (started) => {
      pid = started;
      void world.at(
        "pve1",
        "sh",
        "-c",
        `for i in $(seq 400); do ls /var/lib/exitnode-lab/pve/guests | grep -q conf && break; sleep 0.01; done; kill -9 ${pid}`,
      );
    },
  });
  await oneWorkingContainer();
});
