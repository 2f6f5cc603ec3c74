// The shop's own script: who is logged in, and a filter that changes the address without loading a page.
(() => {
  const { user, forget } = document.body.dataset;
  if (window.phasewatch && forget) window.phasewatch.reset();
  if (window.phasewatch && user) window.phasewatch.identify(user);

  const invest = document.querySelector('button[data-order]');
  if (invest) invest.addEventListener('click', () => { location.href = invest.dataset.order; });

  const buttons = Array.from(document.querySelectorAll('.filters button'));
  const show = () => {
    const risk = new URLSearchParams(location.search).get('risk') || '';
    buttons.forEach((button) => button.classList.toggle('chosen', button.dataset.risk === risk));
    document.querySelectorAll('.card[data-risk]').forEach((card) => {
      card.hidden = risk !== '' && Number(card.dataset.risk) > Number(risk);
    });
  };
  buttons.forEach((button) => button.addEventListener('click', () => {
    history.pushState({}, '', button.dataset.risk ? '?risk=' + button.dataset.risk : location.pathname);
    show();
  }));
  window.addEventListener('popstate', show);
  show();
})();
