import type { BuildOptions, Built } from "../appliance/image.js";
import type { ApplianceManifest } from "../appliance/manifest.js";
import type { ApplianceParts } from "../appliance/workshop.js";
import { fromBase64 } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { shellWord } from "../kit/shell.js";
import { MINUTE, type Millis } from "../kit/time.js";
import { mustRun } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import type { Ssh } from "../sys/ssh.js";

/** A build on another machine: its programs and its files over SSH, the recipe and its texts from this package. */

const FOLDER = "/var/tmp/exitnode";
const INSTALL_TIMEOUT_MS: Millis = 10 * MINUTE;
const PIECE_TIMEOUT_MS: Millis = 5 * MINUTE;
/** Of the archive at once: in base64 it stays under what one command may print. */
const PIECE_BYTES = 6 * 1024 * 1024;
export const BUILD_PACKAGES: readonly string[] = ["mmdebstrap", "xz-utils", "zstd", "debian-archive-keyring"];

export function remoteParts(here: ApplianceParts, ssh: Ssh, folder = FOLDER): ApplianceParts {
  return {
    ...here,
    paths: { package: here.paths.package, cache: folder },
    files: withPackage(here.files, here.paths.package, remoteFiles(ssh)),
    exec: {
      // /tmp of a container is memory; a scratch folder is larger than that.
      run: (argv, options) => ssh.run(argv, { ...options, env: { TMPDIR: "/var/tmp", ...options?.env } }),
    },
  };
}

/** Installs what a build needs; `mirror` becomes the machine's only archive. */
export async function prepareBuild(
  ssh: Ssh,
  { mirror, signal }: Pick<BuildOptions, "mirror" | "signal">,
): Promise<void> {
  const sources =
    mirror === undefined
      ? []
      : [
          "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*",
          `echo ${shellWord(`deb ${mirror} trixie main`)} >/etc/apt/sources.list`,
        ];
  const script = [
    "set -e",
    "export DEBIAN_FRONTEND=noninteractive LC_ALL=C",
    ...sources,
    "apt-get -q -o Acquire::Retries=3 update",
    `apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install ${BUILD_PACKAGES.join(" ")}`,
  ].join("\n");
  const ran = await ssh.run(["sh", "-s"], {
    input: `${script}\n`,
    timeoutMs: INSTALL_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (ran.exitCode === 0) return;
  const said = (ran.stderr.trim() || ran.stdout.trim()).split("\n").slice(-3).join("; ");
  throw new Failure("archive-unreachable", `the builder cannot install ${BUILD_PACKAGES[0]}: ${said}`, {
    advice: "does a container of that host reach Debian's archive? or name another: --mirror URL",
  });
}

/** Brings the template with its manifest and its list of parts here; the manifest comes last, since it makes it valid. */
export async function fetchBuilt(
  built: Built,
  parts: { readonly ssh: Ssh; readonly files: Files; say(line: string): void },
  folder: string,
  sha512: (content: Uint8Array) => string,
  signal: AbortSignal,
): Promise<Built> {
  const { manifest } = built;
  const path = `${folder}/${manifest.name}`;
  const archive = await fetched(built.path, manifest, parts, signal);
  if (sha512(archive) !== manifest.sha512)
    throw new Failure("checksum-mismatch", `${manifest.name} did not arrive as it was built`, {
      advice: "try again: exitnode appliance build --on HOST",
    });
  for (const gone of [`${path}.json`, `${path}.json.sig`]) await parts.files.remove(gone);
  await parts.files.write(path, archive);
  for (const ending of [".cdx.json", ".json"])
    await parts.files.write(
      `${path}${ending}`,
      await mustRun(parts.ssh, ["cat", `${built.path}${ending}`], { signal }),
    );
  return { ...built, path };
}

async function fetched(
  path: string,
  { bytes, name }: ApplianceManifest,
  { ssh, say }: { readonly ssh: Ssh; say(line: string): void },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const whole = new Uint8Array(bytes);
  say(`fetching ${name} (${(bytes / 1e6).toFixed(1)} MB)`);
  for (let at = 0; at < bytes; at += PIECE_BYTES) {
    const piece = [
      "sh",
      "-c",
      'tail -c "+$2" "$1" | head -c "$3" | base64 -w 0',
      "sh",
      path,
      `${at + 1}`,
      `${PIECE_BYTES}`,
    ];
    const content = fromBase64((await mustRun(ssh, piece, { timeoutMs: PIECE_TIMEOUT_MS, signal })).trim());
    if (content === undefined || content.length !== Math.min(PIECE_BYTES, bytes - at))
      throw new Failure("checksum-mismatch", `${name} changed while it was being fetched`, {
        advice: "run the command again",
      });
    whole.set(content, at);
  }
  return whole;
}

function remoteFiles(ssh: Ssh): Files {
  const readText = async (path: string): Promise<string | undefined> => {
    const ran = await ssh.run(["sh", "-c", '[ -e "$1" ] || exit 44; exec cat -- "$1"', "sh", path]);
    if (ran.exitCode === 44) return undefined;
    if (ran.exitCode !== 0) throw new Failure("read-failed", `cannot read ${path} over SSH: ${ran.stderr.trim()}`);
    return ran.stdout;
  };
  return {
    readText,
    read: async (path) => {
      const text = await readText(path);
      return text === undefined ? undefined : new TextEncoder().encode(text);
    },
    write: (path, content, { mode = 0o644 } = {}) => ssh.push([{ path, content, mode, owner: "root:root" }]),
    remove: async (path) => {
      await mustRun(ssh, ["rm", "-rf", "--", path]);
    },
    list: async (path) => (await ssh.run(["ls", "-A", "--", path])).stdout.split("\n").filter((name) => name !== ""),
  };
}

/** What is below the package's folder is read here. */
function withPackage(here: Files, folder: string, there: Files): Files {
  const of = (path: string): Files => (path.startsWith(`${folder}/`) ? here : there);
  return {
    ...there,
    read: (path) => of(path).read(path),
    readText: (path) => of(path).readText(path),
    list: (path) => of(path).list(path),
  };
}
