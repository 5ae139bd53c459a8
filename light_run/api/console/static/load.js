// Ahead of the page's modules: loads the page again when one of them could not be fetched. Browsers give up what they are
// fetching when the machine's network changes, as it does on a machine where containers start.
const ATTEMPTS = "light-run.attempts";

const loadAgain = async () => {
  const attempts = Number(sessionStorage.getItem(ATTEMPTS)) + 1;
  if (attempts > 10) return;
  sessionStorage.setItem(ATTEMPTS, attempts);
  await new Promise((resolve) => setTimeout(resolve, 300));
  location.reload();
};

// The error of an element that loads something does not bubble.
addEventListener("error", ({ target }) => target !== window && ["LINK", "SCRIPT"].includes(target.tagName) && loadAgain(), true);
addEventListener("page-drawn", () => sessionStorage.removeItem(ATTEMPTS));
