from .architectures import (
    ModelShape as ModelShape,
    transformer_layers as transformer_layers,
)
from .batching import (
    encode_texts as encode_texts,
    evaluation_mode as evaluation_mode,
    pad_batch as pad_batch,
)
from .capture import (
    capture_features as capture_features,
)
from .features import (
    EMBEDDINGS as EMBEDDINGS,
    Features as Features,
    attention_pairs as attention_pairs,
)
from .image_loading import (
    load_image_classifier as load_image_classifier,
)
from .image_models import (
    ImageClassifier as ImageClassifier,
    predict_image_logits as predict_image_logits,
)
from .language_model_loading import (
    load_language_model as load_language_model,
)
from .loading import (
    COURSE_MODELS as COURSE_MODELS,
    base_encoder_path as base_encoder_path,
    language_model_path as language_model_path,
    load_course_model as load_course_model,
    load_text_classifier as load_text_classifier,
    pick_device as pick_device,
)
from .manifest import (
    read_manifest as read_manifest,
    write_manifest as write_manifest,
)
from .prediction_tasks import (
    PredictionTask as PredictionTask,
    prediction_task as prediction_task,
)
from .sentence_encoders import (
    SentenceEncoder as SentenceEncoder,
    load_sentence_encoder as load_sentence_encoder,
)
from .text_models import (
    LanguageModel as LanguageModel,
    TextClassifier as TextClassifier,
    predict_logits as predict_logits,
)
from .token_loading import (
    load_token_classifier as load_token_classifier,
)
from .word_pieces import (
    EncodedWords as EncodedWords,
    encode_words as encode_words,
)
from .word_predictions import (
    WordLogits as WordLogits,
    predict_word_logits as predict_word_logits,
)
