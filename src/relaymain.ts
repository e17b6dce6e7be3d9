import { join } from "node:path";
import { openRelay, relayPlaces } from "./cli/relaydaemon.js";
import { asFailure, Failure } from "./kit/failure.js";
import { tryJson } from "./kit/json.js";
import { version } from "./version.js";
import { decodeRelayConfig, RELAY_FILES } from "./wire/relayconfig.js";

/** The relay's own program, one file without node_modules: reads relay.json, serves until SIGTERM. */
async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === "--version") {
    process.stdout.write(`${version}\n`);
    return 0;
  }
  if (argv[0] === "identity") return identity();
  if (argv[0] !== undefined) {
    process.stderr.write("usage: relay.js [identity|--version]\n");
    return 2;
  }
  const { lineLog } = await import("./sys/linelog.js");
  const { localFiles } = await import("./sys/files.js");
  const { runService } = await import("./cli/servicerun.js");
  const log = lineLog("relay", process.env.EXITNODE_LOG ?? "warn");
  return runService(log, async () => {
    const places = relayPlaces(process.env);
    const path = join(places.etc, RELAY_FILES.config);
    const text = await localFiles.readText(path);
    if (text === undefined)
      throw new Failure("relay-unconfigured", `there is no ${path}`, {
        advice: "exitnode relay --coordinator-key <the coordinator's admission key>",
      });
    const relay = await openRelay(places, decodeRelayConfig(tryJson(text), path), log);
    const { settleHeap } = await import("./sys/heap.js");
    const { startOptimizer } = await import("./sys/optimizer.js");
    const { counters } = relay.service.switchboard;
    settleWhenQuiet(counters, settleHeap);
    optimizeWhenBusy(counters, startOptimizer);
    return relay;
  });
}

/** The public halves of its keys as one line of JSON, for whoever enters it into a map. */
async function identity(): Promise<number> {
  const { relayIdentity } = await import("./cli/relayidentity.js");
  try {
    process.stdout.write(`${JSON.stringify(await relayIdentity(relayPlaces(process.env)))}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`${asFailure(error).message}\n`);
    return 1;
  }
}

const QUIET_LOOK_MS = 10_000;
/** Below this many frames between two looks the pause of a collection harms nobody. */
const QUIET_FRAMES_MAX = 1_000;
/** Logins leave handshakes' garbage behind; a relay that forwards little never collects it by itself. */
const SETTLE_LOGINS_MIN = 20;

function settleWhenQuiet(counters: { logins: number; forwardedFrames: number }, settle: () => void): void {
  let [logins, frames] = [-SETTLE_LOGINS_MIN, 0];
  setInterval(() => {
    const quiet = counters.forwardedFrames - frames <= QUIET_FRAMES_MAX;
    frames = counters.forwardedFrames;
    if (!quiet || counters.logins - logins < SETTLE_LOGINS_MIN) return;
    logins = counters.logins;
    settle();
  }, QUIET_LOOK_MS).unref();
}

const BUSY_LOOK_MS = 1_000;
/** Frames between two looks, 10 Mbit/s: below it the whole program takes a hundredth of a core. */
const BUSY_FRAMES_MIN = 1_000;

function optimizeWhenBusy(counters: { forwardedFrames: number }, optimize: () => void): void {
  let frames = 0;
  const look = setInterval(() => {
    const busy = counters.forwardedFrames - frames >= BUSY_FRAMES_MIN;
    frames = counters.forwardedFrames;
    if (!busy) return;
    clearInterval(look);
    optimize();
  }, BUSY_LOOK_MS);
  look.unref();
}

process.exit(await main(process.argv.slice(2)));
