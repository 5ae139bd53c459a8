// The form's values as a request, and the same request for curl, the light-run command and Python.

export const EMPTY = {
  image: "alpine:3.19", entrypoint: "", run: "", env: "", stdin: "", extract: "", network: "", workdir: "",
  memory: "", cpus: "", pids: "", timeout: "", labels: "", files: [],
};

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

const pairs = (text) =>
  Object.fromEntries(lines(text).map((line) => {
    const at = line.indexOf("=");
    return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
  }));

const number = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text.trim());

// The fields of POST /run. Files that are not text are left out: they go along as parts of a form.
export function fields(form) {
  const limits = {
    ...(form.memory.trim() && { memory: number(form.memory) }),
    ...(form.cpus.trim() && { cpus: number(form.cpus) }),
    ...(form.pids.trim() && { pids: number(form.pids) }),
  };
  const timeout = number(form.timeout);
  const texts = form.files.filter((file) => file.blob === undefined);
  return {
    image: form.image.trim(),
    ...(form.entrypoint.trim() && { entrypoint: form.entrypoint }),
    ...(texts.length && { files: Object.fromEntries(texts.map((file) => [file.path, file.text])) }),
    ...(lines(form.run).length && { run: lines(form.run) }),
    ...(lines(form.env).length && { env: pairs(form.env) }),
    ...(form.stdin && { stdin: form.stdin }),
    ...(lines(form.extract).length && { extract: lines(form.extract) }),
    ...(form.network.trim() && { network: form.network.trim() }),
    ...(form.workdir.trim() && { workdir: form.workdir.trim() }),
    ...(timeout !== "" && { timeout: typeof timeout === "number" ? Math.round(timeout * 1000) : timeout }),
    ...(Object.keys(limits).length && { limits }),
    ...(lines(form.labels).length && { labels: pairs(form.labels) }),
  };
}

// The API wants files, or an archive of them, which may be empty: as many zeros.
const EMPTY_TAR = 1024;

const parts = (form) => form.files.filter((file) => file.blob !== undefined);
const isForm = (form) => parts(form).length > 0 || form.files.length === 0;

// The body of POST /run for a detached run: JSON, or a form where files are not text or there are none.
export function body(form) {
  const request = JSON.stringify({ ...fields(form), detached: true });
  if (!isForm(form)) return request;
  const made = new FormData();
  made.append("request", new Blob([request], { type: "application/json" }));
  if (!form.files.length) made.append("archive", new Blob([new Uint8Array(EMPTY_TAR)]), "empty.tar");
  for (const file of parts(form)) made.append("file", file.blob, file.path);
  return made;
}

const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const address = () => new URL(".", location.href).href.replace(/\/$/, "");

export function curl(form, secured) {
  const request = JSON.stringify(fields(form), null, 2);
  const sent = isForm(form)
    ? [`-F request=${shell(request)}`, ...(form.files.length ? [] : ["-F 'archive=@-;filename=empty.tar'"]), ...parts(form).map((file) => `-F ${shell(`file=@${file.path};filename=${file.path}`)}`)]
    : [`-d ${shell(request)}`];
  const piped = form.files.length ? "" : `head -c ${EMPTY_TAR} /dev/zero | `;
  return [`${piped}curl -s ${shell(`${address()}/run`)}`, ...(secured ? ['-H "Authorization: Bearer $LIGHT_RUN_TOKEN"'] : []), ...sent].join(" \\\n  ");
}

export function cli(form) {
  const { image, entrypoint, run = [], env = {}, stdin, extract = [], network, workdir, timeout, limits = {}, labels = {} } = fields(form);
  const option = (name, value) => (value === undefined ? [] : [`${name} ${shell(String(value))}`]);
  const given = [
    ...form.files.flatMap((file) => option("-f", `${file.path}:${file.path}`)),
    ...run.flatMap((step) => option("--setup", step)),
    ...Object.entries(env).flatMap(([name, value]) => option("-e", `${name}=${value}`)),
    ...Object.entries(labels).flatMap(([name, value]) => option("--label", `${name}=${value}`)),
    ...extract.flatMap((path) => option("-x", path)),
    ...option("--network", network), ...option("-w", workdir),
    ...option("--timeout", typeof timeout === "number" ? timeout / 1000 : timeout),
    ...option("--memory", limits.memory), ...option("--cpus", limits.cpus), ...option("--pids", limits.pids),
    ...(stdin ? [] : ["-n"]),
  ];
  const command = entrypoint ? [`-- sh -c ${shell(entrypoint)}`] : [];
  const piped = stdin ? `printf %s ${shell(stdin)} | ` : "";
  return [`export LIGHT_RUN_URL=${shell(address())}`, `${piped}light-run run ${[shell(image), ...given, ...command].join(" \\\n  ")}`].join("\n");
}

// A value as Python writes it; JSON's strings, numbers and lists are Python's, too.
const python = (value) => JSON.stringify(value).replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);

export function py(form, secured) {
  const { image, entrypoint, files = {}, run, timeout, ...rest } = fields(form);
  const named = [
    ...Object.entries(files).map(([path, text]) => `${python(path)}: ${python(text)}`),
    ...parts(form).map((file) => `${python(file.path)}: Path(${python(file.path)})`),
  ];
  const options = [
    python(image), ...(entrypoint ? [python(entrypoint)] : []),
    ...(named.length ? [`files={${named.join(", ")}}`] : []), ...(run ? [`steps=${python(run)}`] : []),
    ...(timeout === undefined ? [] : [`timeout=${timeout / 1000}`]),
    ...Object.entries(rest).map(([name, value]) => `${name}=${python(value)}`),
  ];
  const client = secured ? `Client(${python(address())}, os.environ["LIGHT_RUN_TOKEN"])` : `Client(${python(address())})`;
  return [
    ...(secured ? ["import os"] : []), ...(parts(form).length ? ["from pathlib import Path"] : []), ...(secured || parts(form).length ? [""] : []),
    "from light_run import Client", "", `with ${client} as client:`, "    run = client.run(",
    ...options.map((option) => `        ${option},`), "    )", "    print(run.exit_code, *run.logs, sep=\"\\n\")",
  ].join("\n");
}

// The form for a run that was asked for before; what is not kept of it is named in `missing`.
export function again(run) {
  const asked = run.request ?? {};
  const limits = asked.limits ?? {};
  const text = (value) => (value === undefined ? "" : String(value));
  return {
    form: {
      ...EMPTY,
      image: asked.image ?? "", entrypoint: asked.entrypoint ?? "", run: (asked.run ?? []).join("\n"),
      env: (asked.env ?? []).map((name) => `${name}=`).join("\n"), extract: (asked.extract ?? []).join("\n"),
      network: asked.network ?? "", workdir: asked.workdir === "/app" ? "" : text(asked.workdir),
      memory: text(limits.memory), cpus: text(limits.cpus), pids: text(limits.pids),
      timeout: asked.timeout ? text(asked.timeout / 1000) : "",
      labels: Object.entries(run.labels ?? {}).map((pair) => pair.join("=")).join("\n"),
    },
    missing: [
      ...(asked.files?.length ? [`the contents of ${asked.files.map((file) => file.path).join(", ")}`] : []),
      ...(asked.env?.length ? ["the values of the environment"] : []),
      ...(asked.truncated ? ["what was cut of long values"] : []),
    ],
  };
}
