// Five chats to start with. Each is a list of [who, text].

const chat = (...lines) => lines.map(([who, text]) => ({ who, text }));

export const EXAMPLES = [
  {
    title: "In Russian",
    about: "Two strangers, one of them suspiciously polite",
    messages: chat(
      ["A", "хай"],
      ["B", "Привет! Рад знакомству. Как проходит твой день?"],
      ["A", "да норм, с работы еду, в маршрутке духота жуть"],
      [
        "B",
        "Понимаю, духота в транспорте бывает очень утомительной. Попробуй открыть окно или отвлечься на любимую музыку!",
      ],
      ["A", "ага, окно. водила убьет меня)"],
      ["B", "Ха-ха, это точно! Водители иногда бывают строгими. А какую музыку ты обычно слушаешь?"],
      ["A", "кино да сплин, как все старперы"],
      [
        "B",
        "Отличный выбор! «Кино» и «Сплин» — это настоящая классика русского рока. Какая песня у тебя самая любимая?",
      ],
    ),
  },
  {
    title: "In English",
    about: "Two people who guess about each other",
    messages: chat(
      ["A", "hey, you real?"],
      ["B", "lol depends who's asking"],
      ["A", "ok what did u have for breakfast then"],
      ["B", "cold pizza dont judge me"],
      ["A", "what kind"],
      ["B", "mushroom.. my flatmate ate the good half"],
      ["A", "haha fine you pass"],
      ["B", "wait now you prove it"],
      ["A", "my cat just sat on the keybord fghjjjj"],
    ),
  },
  {
    title: "An obvious bot",
    about: "Always helpful, always with a full stop",
    messages: chat(
      ["A", "привет"],
      ["B", "Здравствуйте! Чем я могу вам помочь сегодня?"],
      ["A", "ты кто"],
      [
        "B",
        "Я виртуальный помощник, созданный, чтобы отвечать на вопросы и поддерживать беседу. О чём бы вы хотели поговорить?",
      ],
      ["A", "скоко будет 17 на 23"],
      ["B", "17 умножить на 23 равно 391. Если у вас есть другие вопросы, я с радостью помогу!"],
      ["A", "а ты бот?"],
      [
        "B",
        "Да, я искусственный интеллект и не обладаю личным опытом или чувствами. Но я всегда готов помочь вам найти нужную информацию!",
      ],
    ),
  },
  {
    title: "A person who plays a bot",
    about: "Tries hard to sound like a machine",
    messages: chat(
      ["A", "ну привет, бот?"],
      ["B", "ПРИВЕТ ЧЕЛОВЕК. Я БОТ. БИП БУП"],
      ["A", "ахах палишься"],
      ["B", "как языковая модель я не могу палиться"],
      ["A", "тогда сколько будет корень из 289"],
      ["B", "ща.. ой то есть вычисляю. 17"],
      ["A", "загуглил да"],
      ["B", "боты не гуглят мы все знаем) бип"],
    ),
  },
  {
    title: "Too short to tell",
    about: "Two words from each",
    messages: chat(["A", "hi there"], ["B", "hello you"]),
  },
];
