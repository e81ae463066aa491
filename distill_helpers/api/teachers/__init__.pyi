from .answers import (
    COMPLETE as COMPLETE,
    TRUNCATED as TRUNCATED,
    TeacherAnswer as TeacherAnswer,
    TokenLogprob as TokenLogprob,
    Usage as Usage,
)
from .connection import (
    MalformedAnswerError as MalformedAnswerError,
)
from .llama_server import (
    LocalServer as LocalServer,
    local_server as local_server,
)
from .providers import (
    AnthropicTeacher as AnthropicTeacher,
    OpenAITeacher as OpenAITeacher,
    make_teacher as make_teacher,
)
from .teacher import (
    Teacher as Teacher,
)
