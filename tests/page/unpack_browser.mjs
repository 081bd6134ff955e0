/** Unpack the Chromium that came from npm, its libraries and its fonts into a folder: unpack_browser.mjs FOLDER */

import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { createBrotliDecompress } from "node:zlib";
import { extract } from "tar-fs";

const packed = join(dirname(fileURLToPath(import.meta.url)), "node_modules/@sparticuz/chromium/bin");
const folder = resolve(process.argv[2]);

const unpack = (name, target) => pipeline(createReadStream(join(packed, name)), createBrotliDecompress(), target);

await mkdir(folder, { recursive: true });
await unpack("al2023.tar.br", extract(folder));
await unpack("swiftshader.tar.br", extract(folder));
await unpack("fonts.tar.br", extract(folder));
await unpack("chromium.br", createWriteStream(join(folder, "chromium")));
await chmod(join(folder, "chromium"), 0o755);

// On a machine without fonts these are all there are; its own are used where it has any.
const dirs = [join(folder, "fonts"), "/usr/share/fonts"].map((dir) => `<dir>${dir}</dir>`).join("");
const cache = `<cachedir>${join(folder, "font-cache")}</cachedir>`;
await writeFile(join(folder, "fonts.conf"), `<?xml version="1.0"?><fontconfig>${dirs}${cache}</fontconfig>\n`);
