import { utf8 } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { HOUR, type Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { BodyPart } from "../sys/https.js";
import type { Engine } from "./engine.js";
import { volumesReply } from "./guestreplies.js";
import type { UploadFile, UploadOptions, Volume } from "./guests.js";
import { upidReply } from "./replies.js";
import { waitTask } from "./tasks.js";

/**
 * Sending a template. The parts of the form must come in this order, the file last, and each part's first header
 * line must be its Content-Disposition:
 *
 *   content  checksum-algorithm  checksum  filename (the file)
 *
 * Proxmox checks the sum before it moves the file into the storage, so a file that is listed there is whole.
 */
const UPLOAD_DEADLINE_MS: Millis = HOUR;
/** After an answer got lost: how often the storage is looked at, and how long in between. */
export const LOOKS_MAX = 10;
const LOOK_PAUSE_MS: Millis = 3_000;

export async function upload(
  engine: Engine,
  clock: Clock,
  node: string,
  storage: string,
  file: UploadFile,
  options: UploadOptions = {},
): Promise<Volume> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._+-]*\.tar\.(?:zst|xz|gz)$/.test(file.name))
    throw new Failure(
      "template-name-invalid",
      `a template must be called like name_1.0_amd64.tar.zst, got "${file.name}"`,
      { advice: "give the file such a name" },
    );
  const before = await find(engine, node, storage, file);
  const { contentType, body, fileStart } = uploadBody(file);
  try {
    const reply = await engine.send(["nodes", node, "storage", storage, "upload"], contentType, body, {
      deadlineMs: UPLOAD_DEADLINE_MS,
      signal: options.signal,
      onSent: (bytes) => options.onProgress?.(Math.min(Math.max(bytes - fileStart, 0), file.sizeBytes)),
    });
    await waitTask(engine, clock, upidReply(reply), options.signal === undefined ? {} : { signal: options.signal });
  } catch (error) {
    // A proxy in between gives up before the host has copied a large file: the file may yet arrive.
    if (!(error instanceof Failure) || error.code !== "outcome-unknown" || options.signal?.aborted) throw error;
    return await appears(engine, clock, node, storage, file, before, error);
  }
  const volume = await find(engine, node, storage, file);
  if (volume === undefined)
    throw new Failure(
      "upload-lost",
      `the upload ended well, but ${storage} does not list ${file.name} with ${file.sizeBytes} bytes`,
      { advice: "run the command again: it uploads what is not there" },
    );
  return volume;
}

/** The form around the file, as bytes: exported for the test of its layout. */
function uploadBody(file: UploadFile): { contentType: string; body: BodyPart[]; fileStart: number } {
  // A file cannot contain its own hash but by breaking SHA-512, so this line is not in it.
  const boundary = `exitnode-${file.sha512.slice(0, 40)}`;
  const field = (name: string, value: string): string =>
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const head = utf8(
    `${field("content", "vztmpl")}${field("checksum-algorithm", "sha512")}${field("checksum", file.sha512)}` +
      `--${boundary}\r\nContent-Disposition: form-data; name="filename"; filename="${file.name}"\r\n` +
      "Content-Type: application/octet-stream\r\n\r\n",
  );
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    body: [head, { path: file.path, sizeBytes: file.sizeBytes }, utf8(`\r\n--${boundary}--\r\n`)],
    fileStart: head.length,
  };
}

async function find(engine: Engine, node: string, storage: string, file: UploadFile): Promise<Volume | undefined> {
  const path = ["nodes", node, "storage", storage, "content"];
  const volumes = volumesReply(await engine.call("GET", path, { content: "vztmpl" }));
  return volumes.find(
    ({ volid, sizeBytes }) => volid === `${storage}:vztmpl/${file.name}` && sizeBytes === file.sizeBytes,
  );
}

async function appears(
  engine: Engine,
  clock: Clock,
  node: string,
  storage: string,
  file: UploadFile,
  before: Volume | undefined,
  lost: Failure,
): Promise<Volume> {
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    const volume = await find(engine, node, storage, file);
    if (volume !== undefined && volume.createdAtSeconds !== before?.createdAtSeconds) return volume;
    await clock.sleep(LOOK_PAUSE_MS);
  }
  throw lost;
}
