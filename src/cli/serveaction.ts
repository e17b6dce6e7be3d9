import { join } from "node:path";
import YAML from "yaml";
import { toBase64Url, toHex, utf8 } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { parseKey } from "../kit/key.js";
import { sha256 } from "../kit/sha256.js";
import { jsonLog } from "../sys/log.js";
import { version } from "../version.js";
import { COORDINATOR_FILES, coordinatorConfig } from "../wire/coordinatorconfig.js";
import { parseWith } from "../wire/schema.js";
import type { Call, Outcome } from "./command.js";
import { parseFile, readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";
import { coordinatorPlaces, type DaemonPlaces, openCoordinator } from "./coordinatordaemon.js";

const TOKEN_BYTES = 32;

/** Runs a coordinator until Ctrl-C; the first time, makes its configuration and enters it into this user's config. */
export async function serve(call: Call): Promise<Outcome> {
  const { parts, signal } = call;
  const places = coordinatorPlaces(parts.env);
  const path = join(places.etc, COORDINATOR_FILES.config);
  if ((await parts.files.readText(path)) === undefined) await configure(call, path);
  const coordinator = await openCoordinator(places, version, jsonLog("coordinator", "warn"));
  try {
    await enter(call, places, coordinator.status());
    parts.say(`the coordinator listens on port ${coordinator.port}; Ctrl-C stops it`);
    if (!signal.aborted)
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  } finally {
    await coordinator.close();
  }
  return { value: { stopped: true }, text: "the coordinator has stopped; devices keep running on what they know" };
}

/** The token is kept before its hash is: stopped in between, the next run makes both anew. */
async function configure(call: Call, path: string): Promise<void> {
  const { files, paths, random } = call.parts;
  const { url, port } = call.options;
  const urls = Array.isArray(url) ? url : [];
  if (urls.length === 0)
    throw new Failure("coordinator-unconfigured", `there is no ${path}`, {
      advice: "exitnode serve --url https://<how devices reach this machine>",
    });
  if ((await readConfig(files, paths.config)).coordinator !== undefined)
    throw new Failure("coordinator-set", `the config in ${paths.config} names a coordinator already`, {
      advice: `use that one, or take its section out of ${paths.config}/config.yaml`,
    });
  const token = toBase64Url(random(TOKEN_BYTES));
  const config = {
    listen: { port: Number(port ?? (URL.canParse(urls[0] ?? "") ? new URL(urls[0] ?? "").port || 443 : 443)) },
    urls,
    adminTokenSha256: toHex(sha256(utf8(token))),
  };
  parseWith(coordinatorConfig, config, "what was asked for", "usage");
  const credentials = await readCredentials(files, paths.config);
  await writeCredentials(files, paths.config, { ...credentials, coordinator: { adminToken: token } });
  await files.write(path, YAML.stringify(config), { mode: 0o644 });
}

/** Names this coordinator in the user's config when none is named there and the token in the credentials is its own. */
async function enter(
  { parts: { files, paths } }: Call,
  places: DaemonPlaces,
  { publicKey, tlsFingerprint, urls }: { publicKey: string; tlsFingerprint: string; urls: readonly string[] },
): Promise<void> {
  const config = await readConfig(files, paths.config);
  const token = (await readCredentials(files, paths.config)).coordinator?.adminToken;
  if (config.coordinator !== undefined || token === undefined) return;
  const path = join(places.etc, COORDINATOR_FILES.config);
  const own = parseFile(path, await files.readText(path), coordinatorConfig);
  if (toHex(sha256(utf8(token))) !== own.adminTokenSha256) return;
  const local = `https://127.0.0.1:${own.listen.port}`;
  const coordinator = {
    urls: [...urls],
    adminUrls: [...new Set([local, ...urls])],
    publicKey: parseKey(publicKey),
    tlsFingerprint,
  };
  await writeConfig(files, paths.config, { ...config, coordinator });
}
