// Chats to start with, and the scripts of the challenge, all of them written for this page. `verdict` is what the name
// of an example promises, and what a test asks of the model that is served: that "B" or nobody is a bot, or no answer.

const chat = (...texts) => texts.map((text, at) => ({ who: "AB"[at % 2], text }));

export const EXAMPLES = {
  en: [
    {
      title: "A suspiciously helpful stranger",
      verdict: "bot",
      messages: chat(
        "hey",
        "Hello! It's great to meet you. How can I assist you today?",
        "lol ok. what are you up to",
        "I'm here to chat and answer any questions you may have. What would you like to talk about?",
        "idk im stuck on the bus. tell me smth",
        "Certainly! Did you know that honey never spoils? Archaeologists have found edible honey in ancient tombs.",
        "haha random",
        "I'm glad you found it amusing! Is there anything else you would like to know?",
      ),
    },
    {
      title: "Two who tease each other",
      verdict: "nobody",
      messages: chat(
        "yo",
        "sup",
        "u real or what",
        "lol yeah u",
        "yea haha",
        "prove it",
        "my cat just sat on the keybord fghjjj",
        "lmao ok",
        "ur turn",
      ),
    },
    { title: "Too short to tell", verdict: "unsure", messages: chat("hi there", "hello you") },
  ],
  ru: [
    {
      title: "Подозрительно вежливый собеседник",
      verdict: "bot",
      messages: chat(
        "хай",
        "Привет! Рад знакомству. Как проходит твой день?",
        "да норм, с работы еду, в маршрутке духота жуть",
        "Понимаю, духота в транспорте бывает очень утомительной. Попробуй открыть окно или отвлечься на музыку!",
        "ага, окно. водила убьет меня)",
        "Ха-ха, это точно! Водители иногда бывают строгими. А какую музыку ты обычно слушаешь?",
        "кино да сплин, как все старперы",
        "Отличный выбор! «Кино» и «Сплин» — это настоящая классика русского рока. Какая песня у тебя любимая?",
      ),
    },
    {
      title: "Двое, и трудно сказать, кто",
      verdict: "unsure",
      messages: chat(
        "хай",
        "хай хай",
        "че как",
        "да норм, спать хочу",
        "аналогично, до 3 сидел",
        "игра?",
        "да какой там, курсач(",
        "ууу. сдал?",
        "не, препод свалил",
        "классика))",
      ),
    },
    { title: "Слишком коротко, чтобы судить", verdict: "unsure", messages: chat("привет", "привет привет") },
  ],
};

// What the other side says in the challenge: an opening, then one line after each answer, whatever it was.
export const SCRIPTS = {
  en: [
    ["hi, how are you?", "what are you up to today?", "what do you do on weekends?", "and what music do you listen to?"].concat(
      ["tell me something interesting", "ok, and where are you from?"],
    ),
    ["hey! bored at work, you?", "what is it like there?", "any plans for summer?", "do you cook? what is your best dish"].concat(
      ["what did you last laugh about", "and what makes you angry?"],
    ),
  ],
  ru: [
    ["привет, как дела?", "чем сегодня занимаешься?", "а что любишь делать в выходные?", "какую музыку слушаешь?"].concat(
      ["расскажи что-нибудь интересное", "ладно, а ты откуда?"],
    ),
    ["хай! скучаю на работе, а ты?", "и как там?", "какие планы на лето?", "готовить умеешь? что лучше всего"].concat(
      ["над чем последний раз смеялся", "а что тебя бесит?"],
    ),
  ],
};
