// What a shop adds where its SDK does not capture clicks or submits: one track call for each that matters.
(() => {
  const track = (event) => {
    const found = event.target.closest('[data-track]');
    if (found && (found.tagName === 'FORM') === (event.type === 'submit')) {
      shop.track(found.dataset.track, { product_id: found.dataset.product });
    }
  };
  document.currentScript.dataset.on.split(' ').forEach((kind) => document.addEventListener(kind, track, true));
})();
